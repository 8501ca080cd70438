"""The published rule for ending a member's training early (train_interpreter.py)."""

# Shapes: M members.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_seg.checks import check_least


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyStopping:
    """Options of the published rule; with it, the learning rate stays constant."""

    max_epochs: int = 100
    warmup_epochs: int = 4
    """Epochs before the rule starts to count."""
    patience: int = 50
    """A member stops after more than this many batches in a row without a new lowest loss."""

    def __post_init__(self) -> None:
        check_least(self, max_epochs=1, warmup_epochs=0, patience=0)


class StoppingRule:
    """Applies the rule to each member: stop after more than `patience` batches in a row without a new lowest loss."""

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
        """Keeps the members marked true in `chosen_M` bool (M,); drops the others."""
        self.best_M, self.waited_M = self.best_M[chosen_M], self.waited_M[chosen_M]

    def state(self) -> dict[str, Tensor]:
        """Everything needed to resume."""
        return {"best": self.best_M, "waited": self.waited_M}

    def resume(self, state: dict[str, Tensor]) -> None:
        """Restores a `state`."""
        self.best_M, self.waited_M = state["best"], state["waited"]
