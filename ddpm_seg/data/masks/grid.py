"""Linear interpolation between network pixels at the centres of image pixels, axis by axis."""

# Shapes: n network pixels along an axis, N image pixels along it.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """Image pixel i lies between the network pixels `low[i]` and `high[i]`, `fraction[i]` of the way along."""

    low: NDArray[np.int64]
    """int64 (N,), ascending."""
    high: NDArray[np.int64]
    """int64 (N,): low + 1, at the edges low itself."""
    fraction: NDArray[np.float32]
    """float32 (N,) in [0, 1)."""

    @classmethod
    def between(cls, source: int, target: int) -> Axis:
        """Places `target` image pixels over `source` network pixels. Beyond the outermost centres, the edge value is
        repeated."""
        # The centre of pixel i in network pixels: (i + 1/2) source / target - 1/2, as an exact fraction.
        numerator = np.clip((2 * np.arange(target) + 1) * source - target, 0, 2 * target * (source - 1))
        low, remainder = np.divmod(numerator, 2 * target)
        return cls(
            low=low,
            high=np.minimum(low + 1, source - 1),
            fraction=(remainder / (2 * target)).astype(np.float32),
        )

    def __getitem__(self, part: slice) -> Axis:
        """Only the image pixels `part`, over the same network pixels."""
        return Axis(low=self.low[part], high=self.high[part], fraction=self.fraction[part])

    @property
    def covered(self) -> slice:
        """The network pixels that the image pixels depend on."""
        return slice(int(self.low[0]), int(self.high[-1]) + 1)

    def covering(self, first: int, last: int) -> slice:
        """The image pixels whose value depends on any of the network pixels first..last."""
        return slice(int(np.searchsorted(self.high, first)), int(np.searchsorted(self.low, last, side="right")))

    def interpolate(self, values: NDArray[np.float32], axis: int, start: int = 0) -> NDArray[np.float32]:
        """Interpolates `values` float32, whose `axis` has the network pixels from `start` on, at the image pixels."""
        shape = [1] * values.ndim
        shape[axis] = -1
        low, value = values.take(self.low - start, axis), values.take(self.high - start, axis)
        value -= low
        value *= self.fraction.reshape(shape)
        value += low
        return value
