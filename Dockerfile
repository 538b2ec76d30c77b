# One image for runs, servers and workers: the environment of `make train`, from the same locks, as
# a user without privileges.
#
#   docker build --build-arg GIT_COMMIT=$(git rev-parse HEAD) \
#     --build-arg LOCK_HASH=$(sha256sum requirements.lock | cut -d' ' -f1) -t verbatim .
#   docker run --rm -v verbatim-store:/verbatim/store verbatim
#
# For compose.yaml it is built with LOCKS=services, which adds what MLflow's authentication, the S3
# store and the workers of other pools need. There is no HEALTHCHECK here: what health is depends on
# the role, so compose.yaml says it for each. The tag is exact but no digest: add yours.
ARG LOCKS=run

FROM python:3.11.16-slim-bookworm AS base
# The user id of who owns the repository that workers push experiments to.
ARG USER_ID=10001
ENV PYTHONHASHSEED=0 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    UV_NO_CACHE=1
# Of Debian's packages no version is named: the distribution keeps only the newest of each.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git libgomp1 make openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /repository \
    && useradd --create-home --uid "${USER_ID}" verbatim \
    && install --directory --owner verbatim /verbatim /data /verbatim/store \
        /verbatim/store/cache /verbatim/store/checkpoints /verbatim/store/workspaces
USER verbatim
WORKDIR /verbatim

# The locks first: a change of code alone does not install anything again.
FROM base AS with-run
COPY --chown=verbatim Makefile requirements.lock ./
RUN make .venv/run

FROM with-run AS with-services
COPY --chown=verbatim requirements-services.lock ./
RUN make .venv/services

# The commit comes last, since it changes most often.
FROM with-${LOCKS}
COPY --chown=verbatim . .
ARG GIT_COMMIT=unknown
ARG LOCK_HASH=unknown
LABEL org.opencontainers.image.title="verbatim" \
      org.opencontainers.image.description="Training pipelines whose models can be proven" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${GIT_COMMIT}" \
      verbatim.lock-hash="${LOCK_HASH}"
ENV VERBATIM_IMAGE="verbatim:${GIT_COMMIT}" \
    VERBATIM_GIT_COMMIT="${GIT_COMMIT}" \
    VERBATIM_LOCK_HASH="${LOCK_HASH}" \
    MLFLOW_TRACKING_URI=sqlite:////verbatim/store/mlflow.db \
    PATH=/verbatim/.venv/bin:$PATH
CMD ["python", "-m", "flows", "train"]
