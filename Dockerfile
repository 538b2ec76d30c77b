# The environment of `make train`, from the same lock, as a user without privileges.
#
#   docker build --build-arg GIT_COMMIT=$(git rev-parse HEAD) \
#     --build-arg LOCK_HASH=$(sha256sum requirements.lock | cut -d' ' -f1) -t verbatim .
#   docker run --rm -v verbatim-store:/verbatim/store verbatim
FROM python:3.11-slim-bookworm

ARG GIT_COMMIT=unknown
ARG LOCK_HASH=unknown
LABEL org.opencontainers.image.title="verbatim" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${GIT_COMMIT}" \
      verbatim.lock-hash="${LOCK_HASH}"
ENV VERBATIM_IMAGE="verbatim:${GIT_COMMIT}" \
    VERBATIM_GIT_COMMIT="${GIT_COMMIT}" \
    VERBATIM_LOCK_HASH="${LOCK_HASH}" \
    PYTHONHASHSEED=0 \
    PYTHONDONTWRITEBYTECODE=1

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git libgomp1 make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 verbatim \
    && install --directory --owner verbatim /verbatim /verbatim/store
USER verbatim
WORKDIR /verbatim

# The lock first: a change of code alone does not install anything again.
COPY --chown=verbatim Makefile requirements.lock ./
RUN make .venv/run
COPY --chown=verbatim . .

ENV MLFLOW_TRACKING_URI=sqlite:////verbatim/store/mlflow.db \
    PATH=/verbatim/.venv/bin:$PATH
CMD ["python", "-m", "flows", "train"]
