"""A training under way: batches indexed on the device, and a state that can be taken up again.

What comes next follows from the state alone. The order of an epoch's rows and the random numbers of
a step (dropout) come from seeds of their own, derived from the number of the epoch and of the step,
so that no generator has a state to be kept.
"""

from __future__ import annotations

import math
import signal
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW

from tasks import metrics, seeds
from tasks.checkpoints import Checkpoints, State
from tasks.errors import Interrupted, ParamsError, StageError
from tasks.listeners import Judge, Report, approve
from tasks.neural.architecture import Network
from tasks.neural.calibration import probability
from tasks.neural.computing import Computing, Precision
from tasks.neural.loss import ClassWeights
from tasks.neural.parallel import STEPS_BETWEEN_WORDS, Group
from tasks.neural.recording import Recorder
from tasks.neural.tables import Table, predict


class Settings(Protocol):
    """What a training is told; the fields are described in `tasks.models.network`."""

    members: int
    width: int
    depth: int
    dropout: float
    number_bins: int
    number_embedding: int
    category_embedding: int
    learning_rate: float
    warmup_epochs: float
    weight_decay: float
    gradient_clip_norm: float
    class_weight: Literal["none", "balanced"]
    max_epochs: int
    early_stopping_epochs: int
    batch_size: int
    micro_batch_size: int
    precision: Precision
    threads: int
    compile: bool
    deterministic: bool


class Training:
    """A training under way.

    epoch       whole epochs done
    batch       batches done of the next one
    best_epoch  the one with the least validation loss, or the last one without validation
    log_odds    of the validation rows after the last epoch, [rows]
    """

    def __init__(
        self,
        network: Network,
        settings: Settings,
        computing: Computing,
        *,
        weights: ClassWeights,
        seed: int,
        group: Group,
    ) -> None:
        self.network, self.settings, self.computing = network, settings, computing
        self.weights, self.seed, self.group = weights, seed, group
        on_gpu = computing.device.type == "cuda"
        rate = torch.zeros((), dtype=torch.float32 if on_gpu else torch.float64).to(
            computing.device
        )
        groups = _groups(network, settings.weight_decay)
        self.optimizer = AdamW(groups, lr=rate, fused=True, capturable=on_gpu)
        self.scaler = computing.scaler()
        self.recorder = Recorder(possible=on_gpu and group.size == 1)
        self.epoch = self.batch = self.best_epoch = 0
        self.loss = torch.zeros((), dtype=torch.float64, device=computing.device)
        self.best_loss = math.inf
        self.best: dict[str, Tensor] = {}
        self.log_odds: NDArray[np.float64] = np.empty(0)

    def run(
        self,
        table: Table,
        val: Table | None,
        *,
        epochs: int,
        report: Report,
        checkpoints: Checkpoints,
        judge: Judge = approve,
    ) -> None:
        """Train until validation has stopped improving, or for all `epochs` without it.

        Afterwards the network has the weights of the best epoch.
        """
        self.take_up(checkpoints.latest())
        while self.epoch < epochs and not self.has_stopped_improving:
            self.one_epoch(table, checkpoints)
            scores = self.scores(table, val)
            self.judge(scores)
            report(self.epoch, scores)
            if val is not None:
                judge(self.epoch, self.predict)
        checkpoints.keep(self.state())
        self.network.load_state_dict(self.best)

    @property
    def has_stopped_improving(self) -> bool:
        """Whether too many epochs have passed since the best one."""
        return self.epoch - self.best_epoch >= self.settings.early_stopping_epochs

    def one_epoch(self, table: Table, checkpoints: Checkpoints) -> None:
        """Train on every row once, in a new order, from the batch on that is next."""
        self.network.train()
        batches = self.order(len(table)).split(self.settings.batch_size)
        for rows in batches[self.batch :]:
            step = self.epoch * len(batches) + self.batch
            self.step(table, rows, number=step, share=step / len(batches))
            self.batch += 1
            if step % (STEPS_BETWEEN_WORDS if self.group.size > 1 else 1) == 0:
                self.keep_if_due(checkpoints)
        self.epoch, self.batch = self.epoch + 1, 0

    def order(self, rows: int) -> Tensor:
        """Draw the order of the rows in the next epoch."""
        generator = torch.Generator(self.computing.device)
        generator.manual_seed(seeds.derive(self.seed, f"order {self.epoch}"))
        return torch.randperm(rows, generator=generator, device=self.computing.device)

    def step(self, table: Table, rows: Tensor, *, number: int, share: float) -> None:
        """Update the weights once by a batch, computed in parts that fit into memory.

        share  epochs passed, with fractions
        """
        drawn = seeds.derive(self.seed, f"step {number} of process {self.group.rank}")
        self.computing.seed(drawn)
        for group in self.optimizer.param_groups:
            group["lr"].fill_(learning_rate(self.settings, share))
        self.recorder.do(self._update, table, rows)

    def _update(self, table: Table, rows: Tensor) -> None:
        for part in self.group.share(rows).split(self.settings.micro_batch_size):
            numeric, categorical, target = table.take(part)
            with self.computing.autocast():
                log_odds = self.network(numeric, categorical)
            loss = self.weights.loss(log_odds.float(), target)
            self.scaler.scale(loss / len(rows)).backward()
            self.loss += loss.detach()
        self.group.sum_gradients(self.network.parameters())
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

    def scores(self, table: Table, val: Table | None) -> dict[str, float]:
        """Give the mean loss of the epoch that has ended, and the scores of validation.

        Raises ParamsError if the loss has left all bounds.
        """
        loss = float(self.group.sum(self.loss)) / len(table)
        self.loss.zero_()
        if not math.isfinite(loss):
            raise ParamsError(
                f"params.yaml: models.network.learning_rate: must keep the loss finite (got {loss} "
                f"in epoch {self.epoch} with {self.settings.learning_rate:g}): lower it, or "
                "gradient_clip_norm"
            )
        if val is None:
            return {"train_log_loss": loss}
        self.log_odds = predict(self.network, val, shift=self.weights.shift, group=self.group)
        target = val.target.cpu().numpy().astype(np.int64)
        tally = metrics.tally(target, self.predict())
        return {
            "train_log_loss": loss,
            "val_log_loss": metrics.log_loss(tally),
            "val_roc_auc": metrics.roc_auc(tally),
        }

    def predict(self) -> NDArray[np.float64]:
        """Give the probabilities of the validation rows after the last epoch, uncalibrated."""
        return probability(self.log_odds)

    def judge(self, scores: dict[str, float]) -> None:
        """Remember the weights if they are the best so far; without validation the last are."""
        loss = scores.get("val_log_loss")
        if loss is None or loss < self.best_loss or not self.best:
            self.best_loss = math.inf if loss is None else loss
            self.best_epoch = self.epoch
            state = self.network.state_dict()
            self.best = {name: values.detach().clone() for name, values in state.items()}

    def keep_if_due(self, checkpoints: Checkpoints) -> None:
        """Keep the state if its time has come, or if some process was asked to stop."""
        stopping, due = 2, 1
        wish = stopping if checkpoints.stopping else due if checkpoints.due() else 0
        wish = self.group.most(wish, self.computing.device)
        if wish:
            self.group.sum(self.loss)  # so that the first process keeps what all have seen
            checkpoints.keep(self.state())
            if self.group.rank:
                self.loss.zero_()
        if wish == stopping:
            raise Interrupted("train: another process was asked to stop", signal.SIGTERM)

    def state(self) -> State:
        """Give all that decides what comes next."""
        arrays = {f"network.{name}": each for name, each in self.network.state_dict().items()}
        arrays |= {f"best.{name}": each for name, each in self.best.items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                arrays[f"optimizer.{name}.{key}"] = value
        arrays["loss"] = self.loss
        values = {
            "step": self.epoch,
            "batch": self.batch,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "scaler": self.scaler.state_dict(),
        }
        return State({name: each.detach().cpu().numpy() for name, each in arrays.items()}, values)

    def take_up(self, kept: State | None) -> None:
        """Go on from what `state` gave.

        Raises StageError if other processes of the group go on from elsewhere.
        """
        done = 0 if kept is None else 1 + kept.values["step"] * 2**32 + kept.values["batch"]
        if self.group.most(done, self.computing.device) != done:
            raise StageError(
                "VERBATIM_CHECKPOINTS: must name one folder for all processes (got folders with "
                "other checkpoints)\nnext: name a folder on a disk that all machines share"
            )
        if kept is None:
            return
        arrays = {name: torch.from_numpy(each) for name, each in kept.arrays.items()}
        self.network.load_state_dict(_below("network", arrays))
        self.best = {
            name: each.to(self.computing.device) for name, each in _below("best", arrays).items()
        }
        self._take_up_optimizer(_below("optimizer", arrays))
        self.scaler.load_state_dict(kept.values["scaler"])
        if self.group.rank == 0:
            self.loss.copy_(arrays["loss"])
        self.epoch, self.batch = kept.values["step"], kept.values["batch"]
        self.best_epoch, best_loss = kept.values["best_epoch"], kept.values["best_loss"]
        self.best_loss = math.inf if best_loss is None else best_loss

    def _take_up_optimizer(self, arrays: dict[str, Tensor]) -> None:
        names = {parameter: name for name, parameter in self.network.named_parameters()}
        plain = self.optimizer.state_dict()
        members = [each for group in self.optimizer.param_groups for each in group["params"]]
        plain["state"] = {
            number: _below(names[parameter], arrays) for number, parameter in enumerate(members)
        }
        self.optimizer.load_state_dict(plain)


def learning_rate(settings: Settings, share: float) -> float:
    """Rise in a line over the first epochs, then fall along a cosine to zero.

    share  epochs passed, with fractions
    """
    rising = min(1.0, (share + 1e-3) / settings.warmup_epochs) if settings.warmup_epochs else 1.0
    falling = 0.5 * (1 + math.cos(math.pi * min(share / settings.max_epochs, 1.0)))
    return settings.learning_rate * rising * falling


def _groups(network: Network, weight_decay: float) -> list[dict[str, Any]]:
    """Decay products, but neither biases nor the scales that tell the members apart."""
    named = list(network.named_parameters())
    free = [each for name, each in named if name.endswith(("bias", "scale"))]
    decayed = [each for name, each in named if not name.endswith(("bias", "scale"))]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0}]


def _below(prefix: str, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name[len(start) :]: each for name, each in arrays.items() if name.startswith(start)}
