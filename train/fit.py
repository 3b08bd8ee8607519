# pyright: reportMissingImports=false
"""The training loop: cross-entropy, Adam, one learning-rate cycle, label smoothing, early stop, a checkpoint per epoch.

One seed fixes weights, order of samples and result, on one machine and PyTorch version. Test samples are never looked
at: early stop watches the loss on a part of the training samples (`validation`), or without one the training loss.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .checkpoint import load_checkpoint, save_checkpoint
from .data import Data
from .errors import TrainError
from .layers import clip_weights
from .networks import QuantNetwork

__all__ = ["Options", "Outcome", "accuracy", "fit", "predict"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """How to train."""

    seed: int = 0
    epochs: int = 40
    rate: float = 0.03
    """Highest learning rate of the cycle."""
    batch: int = 64
    validation: float = 0.0
    """Share of the training samples kept for early stop; the weights of the best epoch are taken."""
    patience: int = 0
    """Stop after so many epochs without a better loss; 0: never."""
    smoothing: float = 0.1
    """Label smoothing: this share of the wanted probability is spread over all classes."""

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise TrainError(f"epochs: {self.epochs}, must be 1 or more")
        if self.batch < 2:
            raise TrainError(f"batch: {self.batch}, must be 2 or more (BatchNorm needs two samples)")
        if not 0 < self.rate < 10:
            raise TrainError(f"rate: {self.rate:g}, must be above 0 and below 10")
        if not 0 <= self.validation <= 0.5:
            raise TrainError(f"validation: {self.validation:g}, must be 0 to 0.5")
        if self.patience < 0:
            raise TrainError(f"patience: {self.patience}, must be 0 (off) or more")
        if not 0 <= self.smoothing < 1:
            raise TrainError(f"smoothing: {self.smoothing:g}, must be 0 (off) or more and below 1")


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    epochs: int
    """Epochs done."""
    losses: list[float]
    """Watched loss of each epoch."""
    stopped_early: bool


def predict(network: nn.Module, x: np.ndarray, batch: int = 256) -> np.ndarray:
    """Class scores float32 [n, classes]."""
    network.eval()
    with torch.no_grad():
        parts = [network(torch.from_numpy(x[at : at + batch])) for at in range(0, len(x), batch)]
    return torch.cat(parts).numpy()


def accuracy(network: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    """Share of samples whose highest score is the label's."""
    return float((predict(network, x).argmax(axis=1) == y).mean())


def _check(network: QuantNetwork, data: Data) -> None:
    if data.shape != network.spec.input_shape:
        raise TrainError(
            f"data {data.name!r}: inputs have the shape {data.shape}, the network takes {network.spec.input_shape}"
        )
    if len(data.classes) != network.spec.classes:
        raise TrainError(
            f"data {data.name!r}: {len(data.classes)} classes, but the network gives {network.spec.classes} scores"
        )


class _Run:
    """One training run: what a checkpoint holds, and one epoch."""

    def __init__(self, network: QuantNetwork, data: Data, options: Options) -> None:
        self.network, self.options = network, options
        self.generator = torch.Generator().manual_seed(options.seed)
        order = torch.randperm(len(data.x), generator=self.generator)
        held = round(options.validation * len(data.x))
        x, y = torch.from_numpy(data.x)[order], torch.from_numpy(data.y)[order]
        self.x, self.y, self.x_held, self.y_held = x[held:], y[held:], x[:held], y[:held]
        # A last batch of one sample has no BatchNorm statistics.
        self.starts = [at for at in range(0, len(self.x), options.batch) if len(self.x) - at > 1]
        if not self.starts:
            raise TrainError(f"data {data.name!r}: {len(self.x)} training samples are too few")
        self.optimizer = torch.optim.Adam(network.parameters(), lr=options.rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, options.rate, total_steps=options.epochs * len(self.starts)
        )
        self.losses: list[float] = []
        self.best = math.inf
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] | None = None

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "losses": self.losses,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        self.losses, self.best = list(state["losses"]), state["best"]
        self.best_epoch, self.best_weights = state["best_epoch"], state["best_weights"]

    def epoch(self) -> float:
        """Go through the samples once; returns the watched loss."""
        self.network.train()
        order = torch.randperm(len(self.x), generator=self.generator)
        total = 0.0
        for at in self.starts:
            pick = order[at : at + self.options.batch]
            self.optimizer.zero_grad()
            scores = self.network(self.x[pick])
            loss = functional.cross_entropy(scores, self.y[pick], label_smoothing=self.options.smoothing)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            clip_weights(self.network)
            total += loss.item() * len(pick)
        watched = total / len(self.x)
        if len(self.x_held):
            scores = torch.from_numpy(predict(self.network, self.x_held.numpy()))
            watched = functional.cross_entropy(scores, self.y_held).item()
        if not math.isfinite(watched):
            raise TrainError(f"training diverged in epoch {len(self.losses) + 1}: give a lower --rate")
        self.losses.append(watched)
        if watched < self.best:
            self.best, self.best_epoch = watched, len(self.losses)
            if len(self.x_held):
                self.best_weights = copy.deepcopy(self.network.state_dict())
        return watched

    @property
    def exhausted(self) -> bool:
        """Nothing better for as long as patience lasts."""
        return 0 < self.options.patience <= len(self.losses) - self.best_epoch


def fit(
    network: QuantNetwork,
    data: Data,
    options: Options,
    *,
    progress: Progress | None = None,
    label: str = "",
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Outcome:
    """Train `network` in place. With `checkpoint` its file is written after every epoch.

    With `resume` too training goes on from that file, and ends with the very weights of a run without a break.
    """
    _check(network, data)
    asked = {"data": data.name, **asdict(options)}
    run = _Run(network, data, options)
    if resume and checkpoint is not None:
        run.restore(load_checkpoint(checkpoint, network.spec, asked)["state"])
    while len(run.losses) < options.epochs and not run.exhausted:
        loss = run.epoch()
        if checkpoint is not None:
            save_checkpoint(checkpoint, network.spec, asked, run.state())
        if progress is not None:
            progress(f"{label or network.spec.precision.label} loss {loss:.4f}", len(run.losses), options.epochs)
    if run.best_weights is not None:
        network.load_state_dict(run.best_weights)
    network.eval()
    return Outcome(len(run.losses), run.losses, len(run.losses) < options.epochs)
