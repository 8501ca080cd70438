"""Training the pixel classifiers: all members side by side, each with its own start, order of pixels and end.

The published `train` (train_interpreter.py) trains one member after the other, on features of all pixels upsampled.
Shapes: M members still in training, B pixels of a batch, P labelled pixels, D features.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm_seg.model.ensemble import Member
from ddpm_seg.training.members import MemberStack, epoch_order, initial_member, member_generator
from ddpm_seg.training.pixel_features import PixelFeatures

logger = logging.getLogger(__name__)

LOG_EVERY = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleConfig:
    """How to train the members; the defaults are the published ones."""

    members: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    seed: int = 0
    max_epochs: int = 100
    max_iterations: int | None = None
    warmup_epochs: int = 4
    """Epochs before the stopping rule begins to count."""
    patience: int = 50
    """A member stops when more than this many batches in a row brought no new lowest loss."""

    def __post_init__(self) -> None:
        # BatchNorm needs two pixels.
        for name, least in (("members", 1), ("batch_size", 2), ("max_epochs", 1), ("max_iterations", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, expected at least {least}")
        if not 0 <= self.seed < 2**48:
            raise ValueError(f"seed is {self.seed}, expected 0 to {2**48 - 1}")


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
    `labels_P` int64.

    A member depends on the seed and its own number only: not, up to rounding, on how many are trained beside it.
    Raises ValueError where the pixels do not fill one batch.
    """
    if len(pixels_P) < config.batch_size:
        raise ValueError(f"{len(pixels_P)} labelled pixels do not fill a batch of {config.batch_size}; annotate more")
    generators = [member_generator(config.seed, number) for number in range(config.members)]
    members = [initial_member(features.num_features, num_classes, generator) for generator in generators]
    stack = MemberStack(members, learning_rate=config.learning_rate, device=features.device)
    rule = StoppingRule(config.members, config.patience)
    running = list(range(config.members))  # the members' own numbers, in the stack's order
    done: dict[int, TrainedMember] = {}
    batches = len(pixels_P) // config.batch_size  # as published, an epoch's last incomplete batch is dropped
    limit = min(config.max_epochs * batches, config.max_iterations or config.max_epochs * batches)
    with tqdm(total=min(limit, config.warmup_epochs * batches), desc="training", unit="batch", disable=None) as bar:
        for iteration in range(1, limit + 1):
            epoch, batch = divmod(iteration - 1, batches)
            if batch == 0:
                orders = {number: epoch_order(len(pixels_P), generators[number]) for number in running}
            chosen = slice(batch * config.batch_size, (batch + 1) * config.batch_size)
            picks_MB = torch.stack([orders[number][chosen] for number in running])
            x_MBD = features.gather(pixels_P[picks_MB].flatten()).unflatten(0, picks_MB.shape)
            losses_M = stack.step(x_MBD, labels_P[picks_MB].to(features.device)).cpu()
            _show(bar, iteration, losses_M, min(limit, iteration + config.patience))

            stopped_M = torch.full((len(running),), iteration == limit)
            if epoch >= config.warmup_epochs:
                stopped_M |= rule.update(losses_M)
            for index in stopped_M.nonzero().flatten().tolist():
                loss = losses_M[index].item()
                done[running[index]] = TrainedMember(weights=stack.member(index), iterations=iteration, loss=loss)
            if stopped_M.all():
                break
            if stopped_M.any():  # the others go on alone, so that a stopped member costs nothing more
                stack.keep(~stopped_M)
                rule.keep(~stopped_M)
                running = [number for number in running if number not in done]
    return [done[number] for number in range(config.members)]


class StoppingRule:
    """The published rule, member by member: stop when more than `patience` batches in a row brought no lowest loss."""

    def __init__(self, members: int, patience: int) -> None:
        self.best_M = torch.full((members,), torch.inf)
        self.waited_M = torch.zeros(members, dtype=torch.int64)
        self.patience = patience

    def update(self, losses_M: Tensor) -> Tensor:
        """Takes one batch's losses; returns which members stop, bool (M,)."""
        better_M = losses_M < self.best_M
        self.best_M = torch.where(better_M, losses_M, self.best_M)
        self.waited_M = torch.where(better_M, 0, self.waited_M + 1)
        return self.waited_M > self.patience

    def keep(self, chosen_M: Tensor) -> None:
        """Forgets the members marked false in `chosen_M` bool (M,)."""
        self.best_M, self.waited_M = self.best_M[chosen_M], self.waited_M[chosen_M]


def _show(bar: tqdm, iteration: int, losses_M: Tensor, earliest_end: int) -> None:
    """Past the warm-up nobody knows when the members will stop, so the bar's end moves ahead of it until they do."""
    if bar.total is not None and iteration > bar.total:
        bar.total = earliest_end
    if iteration % 20 == 0:
        bar.set_postfix(loss=f"{losses_M.mean():.4f}", members=len(losses_M), refresh=False)
    bar.update()
    if iteration % LOG_EVERY == 0:
        logger.info("batch %d: mean loss %.4f, %d members in training", iteration, losses_M.mean(), len(losses_M))
