"""Trains the pixel classifiers: all members side by side, each with its own initial weights and order of pixels.

The published `train` (train_interpreter.py) trains one member after another, on upsampled features of all pixels, in
small batches at a constant rate until the loss stops falling. Standardised features, larger batches and a rate that
decays to zero give better masks in fewer passes; `PUBLISHED` keeps the published way.

Shapes: M members still in training, B pixels per batch, P labelled pixels, D features.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddpm_seg.checks import check_least, check_positive
from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.model.ensemble import Member
from ddpm_seg.progress import Progress
from ddpm_seg.training.divergence import Watch
from ddpm_seg.training.ensemble.members import (
    SEEDS,
    MemberStack,
    epoch_order,
    initial_member,
    member_generator,
    on_raw_features,
)
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures
from ddpm_seg.training.ensemble.stopping import EarlyStopping, StoppingRule
from ddpm_seg.training.saving import keeping
from ddpm_seg.training.unfinished import restoring, write_state

logger = logging.getLogger(__name__)

SAVE_SECONDS = 60.0
WARMUP_ITERATIONS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleConfig:
    """How to train the members."""

    members: int = 10
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    iterations: int | None = 1500
    """Batches per member. With early stopping, the maximum; None then sets no other limit."""
    standardize: bool = True
    """Train on features scaled to mean 0 and deviation 1. The trained members take unscaled features either way."""
    early_stopping: EarlyStopping | None = None
    """None: warm up, then decay the learning rate to zero along a cosine over all iterations."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, members=1, batch_size=2, iterations=1, weight_decay=0)  # BatchNorm needs two pixels
        check_positive(self, "learning_rate")
        if self.iterations is None and self.early_stopping is None:
            raise ValueError("iterations is None, expected a number when there is no early stopping")
        if not 0 <= self.seed < SEEDS:
            raise ValueError(f"seed is {self.seed}, expected 0 to {SEEDS - 1}")

    def learning_rate_factor(self, iteration: int) -> float:
        """Factor on `learning_rate` for step number `iteration`, counted from 1."""
        if self.early_stopping or self.iterations is None:
            return 1.0
        return min(1.0, iteration / WARMUP_ITERATIONS) * (1 + math.cos(math.pi * (iteration - 1) / self.iterations)) / 2


PUBLISHED = EnsembleConfig(
    batch_size=64,
    learning_rate=1e-3,
    weight_decay=0.0,
    iterations=None,
    standardize=False,
    early_stopping=EarlyStopping(),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedMember:
    """A member at the end of its training."""

    weights: Member
    iterations: int
    loss: float
    """Loss of its last batch."""


def train_members(
    features: PixelFeatures,
    pixels_P: Tensor,
    labels_P: Tensor,
    num_classes: int,
    config: EnsembleConfig,
    *,
    state_uri: str | None = None,
) -> list[TrainedMember]:
    """Trains `config.members` classifiers on the pixels at `pixels_P` int64, positions in `features`, of classes
    `labels_P` int64. With `config.standardize`, `features` are standardised in place.

    A member depends, up to rounding, only on the seed and its own number, not on how many are trained beside it. The
    state is saved at `state_uri` every minute and when stopped, and restored from there. The caller must choose another
    URI for other pixels or settings, and delete the state when done. Raises ValueError if the pixels do not fill a
    batch.
    """
    training = EnsembleTraining(features, pixels_P, labels_P, num_classes, config)
    with (
        keeping(training, state_uri, Worker(), seconds=SAVE_SECONDS) as saving,
        Progress("training", total=training.expected, unit="batches") as progress,
    ):
        while training.running:
            with saving.step():
                losses_M = training.step()
            progress.at(training.iteration, loss=losses_M.mean(), members=len(losses_M))
    return training.members()


class EnsembleTraining:
    """Members in training, the finished ones, and everything needed to resume."""

    def __init__(
        self, features: PixelFeatures, pixels_P: Tensor, labels_P: Tensor, num_classes: int, config: EnsembleConfig
    ) -> None:
        if len(pixels_P) < config.batch_size:
            raise ValueError(
                f"{len(pixels_P)} labelled pixels do not fill a batch of {config.batch_size}; annotate more"
            )
        self.features, self.pixels_P, self.labels_P, self.config = features, pixels_P, labels_P, config
        self.scale = features.standardize() if config.standardize else None
        self.batches = len(pixels_P) // config.batch_size  # as published, an epoch's last incomplete batch is dropped
        self.limit, self.rule = _end_of_training(config, self.batches)
        self.generators = [member_generator(config.seed, number) for number in range(config.members)]
        members = [initial_member(features.num_features, num_classes, generator) for generator in self.generators]
        self.stack = MemberStack(members, weight_decay=config.weight_decay, device=features.device)
        self.watch = Watch("the members", "another --recipe or other --blocks, and look at the images")
        self.iteration = 0
        self.running = list(range(config.members))  # the members' own numbers, in the stack's order
        self.done: dict[int, TrainedMember] = {}
        self._begin_epoch()

    @property
    def expected(self) -> int:
        """Expected batches per member: with early stopping, the first batch at which a member may stop."""
        return self.rule.first_batch if self.rule else self.limit

    def step(self) -> Tensor:
        """One batch for every running member. Returns their losses before the step, float32 (M,) on the CPU."""
        batch = self.iteration % self.batches
        if batch == 0 and self.iteration:
            self._begin_epoch()
        chosen = slice(batch * self.config.batch_size, (batch + 1) * self.config.batch_size)
        picks_MB = torch.stack([self.orders[number][chosen] for number in self.running])
        x_MBD = self.features.gather(self.pixels_P[picks_MB].flatten()).unflatten(0, picks_MB.shape)
        self.iteration += 1
        rate = self.config.learning_rate * self.config.learning_rate_factor(self.iteration)
        losses_M = self.stack.step(x_MBD, self.labels_P[picks_MB].to(self.features.device), rate).cpu()
        self.watch.see(losses_M.sum())
        stopped_M = torch.full((len(self.running),), self.iteration == self.limit)
        if self.rule:
            stopped_M |= self.rule.update(self.iteration, losses_M)
        if stopped_M.any():
            self._finish(stopped_M, losses_M)
        return losses_M

    def members(self) -> list[TrainedMember]:
        """All trained members, ordered by number, converted to take features that are not standardised."""
        trained = (self.done[number] for number in range(self.config.members))
        if self.scale is None:
            return list(trained)
        return [replace(member, weights=on_raw_features(member.weights, *self.scale)) for member in trained]

    def save(self, uri: str) -> None:
        """Writes everything needed to resume, atomically."""
        done = {
            number: {"weights": dict(member.weights), "iterations": member.iterations, "loss": member.loss}
            for number, member in self.done.items()
        }
        state = {
            "iteration": self.iteration,
            "epoch_began": self.epoch_began,
            "running": self.running,
            "done": done,
            "stack": self.stack.state(),
            "rule": self.rule.state() if self.rule else None,
        }
        write_state(uri, state)

    def resume(self, uri: str) -> None:
        """Restores a saved state. Raises ValueError, naming the file, if it is damaged."""
        with restoring(uri) as state:
            self.iteration, self.running = state["iteration"], state["running"]
            self.done = {number: TrainedMember(**member) for number, member in state["done"].items()}
            self.stack.resume(state["stack"])
            if self.rule:
                self.rule.resume(state["rule"])
            for generator, began in zip(self.generators, state["epoch_began"], strict=True):
                generator.set_state(began)
            if {*self.running, *self.done} != {*range(self.config.members)} or not 0 <= self.iteration <= self.limit:
                raise ValueError(f"it has members {[*self.running, *self.done]} at batch {self.iteration}")
            self._begin_epoch()
        logger.info("resumed at batch %d", self.iteration)

    def _begin_epoch(self) -> None:
        self.epoch_began = [generator.get_state() for generator in self.generators]
        self.orders = {number: epoch_order(len(self.pixels_P), self.generators[number]) for number in self.running}

    def _finish(self, stopped_M: Tensor, losses_M: Tensor) -> None:
        for index in stopped_M.nonzero().flatten().tolist():
            self.done[self.running[index]] = TrainedMember(
                weights=self.stack.member(index), iterations=self.iteration, loss=losses_M[index].item()
            )
        self.running = [number for number in self.running if number not in self.done]
        if self.running:  # only these stay in the stack: a stopped member takes no more time
            self.stack.keep(~stopped_M)
            if self.rule:
                self.rule.keep(~stopped_M)


def _end_of_training(config: EnsembleConfig, batches: int) -> tuple[int, StoppingRule | None]:
    """The maximum number of batches per member, and the rule, if any, that may stop it earlier; an epoch has
    `batches`."""
    early = config.early_stopping
    if early is None:
        return config.iterations or 0, None
    limit = min(early.max_epochs * batches, config.iterations or early.max_epochs * batches)
    return limit, StoppingRule(config.members, early.patience, first_batch=early.warmup_epochs * batches + 1)
