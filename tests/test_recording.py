"""Recording a step: what a processor reaches; `bench.gpu --only bytes` compares bytes on a GPU."""

import torch
from torch import Tensor

from tasks.neural.recording import PLAIN_STEPS, Recorder
from tasks.neural.tables import Table

TABLE = Table(torch.zeros(9, 1), torch.zeros(9, 0, dtype=torch.int32), torch.zeros(9))


def test_what_cannot_be_recorded_is_done_each_time_with_the_rows_that_are_given() -> None:
    done: list[list[int]] = []

    def work(table: Table, rows: Tensor) -> None:
        assert table is TABLE
        done.append(rows.tolist())

    recorder = Recorder(possible=False)
    given = [[number, number % 3][: 1 + number % 2] for number in range(PLAIN_STEPS + 5)]
    for rows in given:
        recorder.do(work, TABLE, torch.tensor(rows))
    assert done == given
