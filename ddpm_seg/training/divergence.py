"""Stops a training at the first loss that is not finite, since every weight would become NaN from there on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ddpm_seg.errors import TrainingDiverged

if TYPE_CHECKING:
    from torch import Tensor

GPU_STEPS = 20
"""Steps between two checks of the loss on a GPU, where each check waits for the device. On a CPU every step is
checked."""


class Watch:
    """Checks a training's losses. `what` names the training in the error, `advice` says what may help."""

    def __init__(self, what: str, advice: str) -> None:
        self._what, self._advice = what, advice
        self._steps, self._sum = 0, 0.0
        self._waiting: Tensor | None = None

    def see(self, loss: Tensor) -> None:
        """Takes the loss of one step. Raises TrainingDiverged if it is not finite: on a CPU at once, on a GPU within
        GPU_STEPS steps."""
        self._steps += 1
        # Once a loss is not finite, the sum is not either.
        self._waiting = loss.detach() if self._waiting is None else self._waiting + loss.detach()
        if loss.device.type == "cpu" or self._steps % GPU_STEPS == 0:
            self.look()

    def look(self) -> None:
        """Raises TrainingDiverged if any loss so far was not finite. Call it before saving a state."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not math.isfinite(float(waiting)):
            raise TrainingDiverged(
                f"the loss of {self._what} is not a finite number at step {self._steps}: the training has diverged; "
                f"try {self._advice}"
            )
