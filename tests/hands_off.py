"""A worker that starts its runs elsewhere and does not wait for them, as that for Kubernetes does.

python tests/hands_off.py POOL MINUTES
"""

import sys

from prefect.states import Running
from prefect.workers.base import BaseWorker, BaseWorkerResult

from flows import worker


class HandsOff(BaseWorker):
    type = "hands-off"

    async def run(self, flow_run, configuration, task_status=None):
        await self.client.set_flow_run_state(flow_run.id, Running(), force=True)
        task_status.started(configuration.name)
        return BaseWorkerResult(identifier=configuration.name, status_code=0)


if __name__ == "__main__":
    worker.work(sys.argv[1], idle_timeout_minutes=float(sys.argv[2]))
