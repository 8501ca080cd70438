"""Training the pixel classifiers: all members side by side, each with its own start and order of pixels.

The published `train` (train_interpreter.py) trains one member after the other, on features of all pixels upsampled, in
small batches at a constant rate until the loss stops falling. Standardised features, larger batches and a rate that
falls to zero give better masks from fewer passes; the published way stays there as `PUBLISHED`.
Shapes: M members still in training, B pixels of a batch, P labelled pixels, D features.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_seg.model.ensemble import Member
from ddpm_seg.training.members import MemberStack, epoch_order, initial_member, member_generator, on_raw_features
from ddpm_seg.training.pixel_features import PixelFeatures

logger = logging.getLogger(__name__)

LOG_EVERY = 500
WARMUP_ITERATIONS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyStopping:
    """The published end of a member's training; its learning rate stays constant until then."""

    max_epochs: int = 100
    warmup_epochs: int = 4
    """Epochs before the rule begins to count."""
    patience: int = 50
    """A member stops when more than this many batches in a row brought no new lowest loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleConfig:
    """How to train the members."""

    members: int = 10
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    iterations: int | None = 1500
    """Batches of each member; with early stopping at most, and None for whatever that allows."""
    standardize: bool = True
    """Whether members see features of mean 0 and deviation 1. The trained ones read the features as they are."""
    early_stopping: EarlyStopping | None = None
    """None: a warm-up, and a cosine down to zero over all iterations."""
    seed: int = 0

    def __post_init__(self) -> None:
        # BatchNorm needs two pixels.
        for name, least in (("members", 1), ("batch_size", 2), ("iterations", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, expected at least {least}")
        if self.iterations is None and self.early_stopping is None:
            raise ValueError("iterations is None, expected a number where there is no early stopping")
        if not 0 <= self.seed < 2**48:
            raise ValueError(f"seed is {self.seed}, expected 0 to {2**48 - 1}")

    def learning_rate_factor(self, iteration: int) -> float:
        """Of `learning_rate`, for the step that makes `iteration` the number of steps taken."""
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
    """A member as it stood when its training stopped."""

    weights: Member
    iterations: int
    loss: float
    """Of its last batch."""


def train_members(
    features: PixelFeatures, pixels_P: Tensor, labels_P: Tensor, num_classes: int, config: EnsembleConfig
) -> list[TrainedMember]:
    """Trains `config.members` classifiers on the pixels at `pixels_P` int64, positions in `features`, of classes
    `labels_P` int64. `features` are standardised in place where `config` says so.

    A member depends on the seed and its own number only: not, up to rounding, on how many are trained beside it.
    Raises ValueError where the pixels do not fill one batch.
    """
    if len(pixels_P) < config.batch_size:
        raise ValueError(f"{len(pixels_P)} labelled pixels do not fill a batch of {config.batch_size}; annotate more")
    scale = features.standardize() if config.standardize else None
    generators = [member_generator(config.seed, number) for number in range(config.members)]
    members = [initial_member(features.num_features, num_classes, generator) for generator in generators]
    stack = MemberStack(members, weight_decay=config.weight_decay, device=features.device)
    running = list(range(config.members))  # the members' own numbers, in the stack's order
    done: dict[int, TrainedMember] = {}
    batches = len(pixels_P) // config.batch_size  # as published, an epoch's last incomplete batch is dropped
    limit, rule = _end_of_training(config, batches)
    with tqdm(total=rule.first_batch if rule else limit, desc="training", unit="batch", disable=None) as bar:
        for iteration in range(1, limit + 1):
            batch = (iteration - 1) % batches
            if batch == 0:
                orders = {number: epoch_order(len(pixels_P), generators[number]) for number in running}
            chosen = slice(batch * config.batch_size, (batch + 1) * config.batch_size)
            picks_MB = torch.stack([orders[number][chosen] for number in running])
            x_MBD = features.gather(pixels_P[picks_MB].flatten()).unflatten(0, picks_MB.shape)
            rate = config.learning_rate * config.learning_rate_factor(iteration)
            losses_M = stack.step(x_MBD, labels_P[picks_MB].to(features.device), rate).cpu()
            _show(bar, iteration, losses_M)

            stopped_M = torch.full((len(running),), iteration == limit)
            if rule:
                stopped_M |= rule.update(iteration, losses_M)
            for index in stopped_M.nonzero().flatten().tolist():
                loss = losses_M[index].item()
                weights = on_raw_features(stack.member(index), *scale) if scale else stack.member(index)
                done[running[index]] = TrainedMember(weights=weights, iterations=iteration, loss=loss)
            if stopped_M.all():
                break
            if stopped_M.any():  # the others go on alone, so that a stopped member costs nothing more
                stack.keep(~stopped_M)
                if rule:
                    rule.keep(~stopped_M)
                running = [number for number in running if number not in done]
    return [done[number] for number in range(config.members)]


def _end_of_training(config: EnsembleConfig, batches: int) -> tuple[int, StoppingRule | None]:
    """Most batches of a member, and the rule that may end it before; `batches` make an epoch."""
    early = config.early_stopping
    if early is None:
        return config.iterations or 0, None
    limit = min(early.max_epochs * batches, config.iterations or early.max_epochs * batches)
    return limit, StoppingRule(config.members, early.patience, first_batch=early.warmup_epochs * batches + 1)


class StoppingRule:
    """The published rule, member by member: stop when more than `patience` batches in a row brought no lowest loss."""

    def __init__(self, members: int, patience: int, *, first_batch: int = 1) -> None:
        """Batches before `first_batch` do not count."""
        self.best_M = torch.full((members,), torch.inf)
        self.waited_M = torch.zeros(members, dtype=torch.int64)
        self.patience, self.first_batch = patience, first_batch

    def update(self, iteration: int, losses_M: Tensor) -> Tensor:
        """Takes the losses of batch number `iteration`; returns which members stop, bool (M,)."""
        if iteration < self.first_batch:
            return torch.zeros(len(losses_M), dtype=torch.bool)
        better_M = losses_M < self.best_M
        self.best_M = torch.where(better_M, losses_M, self.best_M)
        self.waited_M = torch.where(better_M, 0, self.waited_M + 1)
        return self.waited_M > self.patience

    def keep(self, chosen_M: Tensor) -> None:
        """Forgets the members marked false in `chosen_M` bool (M,)."""
        self.best_M, self.waited_M = self.best_M[chosen_M], self.waited_M[chosen_M]


def _show(bar: tqdm, iteration: int, losses_M: Tensor) -> None:
    """Where members stop by a rule nobody knows when, so the bar's end moves ahead of it until they do."""
    if bar.total is not None and iteration > bar.total:
        bar.total = iteration
    if iteration % 20 == 0:
        bar.set_postfix(loss=f"{losses_M.mean():.4f}", members=len(losses_M), refresh=False)
    bar.update()
    if iteration % LOG_EVERY == 0:
        logger.info("batch %d: mean loss %.4f, %d members in training", iteration, losses_M.mean(), len(losses_M))
