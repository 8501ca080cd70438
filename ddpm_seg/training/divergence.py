"""Trainings stop at the first loss that is not finite: from there on every weight would be NaN."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ddpm_seg.errors import TrainingDiverged

if TYPE_CHECKING:
    from torch import Tensor

GPU_STEPS = 20
"""Steps between two looks at a loss on a GPU, each of which waits for the device. On a CPU every step is looked at."""


class Watch:
    """Looks at a training's losses. `advice`: what may help."""

    def __init__(self, what: str, advice: str) -> None:
        self._what, self._advice = what, advice
        self._steps, self._sum = 0, 0.0
        self._waiting: Tensor | None = None

    def see(self, loss: Tensor) -> None:
        """Takes the loss of one step. Raises TrainingDiverged at the first that is not finite, on a GPU soon after."""
        self._steps += 1
        # A sum is not finite from the first such loss on.
        self._waiting = loss.detach() if self._waiting is None else self._waiting + loss.detach()
        if loss.device.type == "cpu" or self._steps % GPU_STEPS == 0:
            self.look()

    def look(self) -> None:
        """Raises TrainingDiverged where a loss so far was not finite. Whoever saves a state looks first."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not math.isfinite(float(waiting)):
            raise TrainingDiverged(
                f"the loss of {self._what} is not a finite number at step {self._steps}: the training has diverged; "
                f"try {self._advice}"
            )
