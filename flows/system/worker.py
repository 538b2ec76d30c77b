"""Prefect's own worker, whose runs begin sooner.

python -m flows.system.worker --pool cpu-pool    # and all that `prefect worker start` takes
"""

from __future__ import annotations

import sys

from prefect.cli import app

from flows import launch


def main() -> None:
    """Do what `prefect worker start` does, with the options of the command line."""
    launch.use()
    sys.argv[:1] = ["prefect", "worker", "start"]
    app()


if __name__ == "__main__":
    main()
