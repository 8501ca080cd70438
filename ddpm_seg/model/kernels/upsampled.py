"""Maps of several resolutions, enlarged to one size and summed, as F.interpolate enlarges each.

Enlarging is a product with a matrix on either side, Y = V X H^T. Each row of V and H has one weight (nearest) or two
(bilinear). F.interpolate makes each enlarged map a tensor, and the sums pass over memory again. Here, large maps are
widened first, X H^T. Then products with a few rows of V at a time enlarge them and add them up: a CPU's cache holds
these rows for the layers that follow.
"""

# Shapes: R rows of the enlarged image, h of a map, C channels, P pixels.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

CACHED_BYTES = 2**24
"""Smaller images are enlarged at once."""
ROWS = 8
"""Rows at a time, of larger ones."""


def upsampled_sums(maps_hwC: Sequence[Tensor], rows: range, size: tuple[int, int], mode: str) -> Iterator[Tensor]:
    """Yields the sums of all maps, float32, enlarged to `size` (H, W) in `mode` "bilinear" or "nearest": those of the
    pixels of `rows`, in order, in new tensors (P, C)."""
    height, width = size
    channels = maps_hwC[0].shape[2]
    if len(rows) == height and (maps_hwC[0].is_cuda or 4 * height * width * channels <= CACHED_BYTES):
        yield _whole(maps_hwC, size, mode)
        return
    strips = [rows[top : top + ROWS] for top in range(0, len(rows), ROWS)]
    wide = []
    for one in maps_hwC:
        start = _row_weights(strips[0], len(one), height, mode)[0].start
        stop = _row_weights(strips[-1], len(one), height, mode)[0].stop
        wide.append((len(one), start, _enlarged(one[start:stop], (stop - start, width), mode).flatten(1)))
    for strip in strips:
        total: Tensor | None = None
        for h, start, one in wide:
            source, weights_Rh = _row_weights(strip, h, height, mode)
            needed = one[source.start - start : source.stop - start]
            total = torch.mm(weights_Rh, needed) if total is None else total.addmm_(weights_Rh, needed)
        assert total is not None  # there is a map
        yield total.view(-1, channels)


def _whole(maps_hwC: Sequence[Tensor], size: tuple[int, int], mode: str) -> Tensor:
    first, *others = (_enlarged(one, size, mode).flatten(0, 1) for one in maps_hwC)
    if not others:
        return first.clone()  # it may be a view
    total_PC = first + others[0]
    for other in others[1:]:
        total_PC += other
    return total_PC


def _enlarged(map_hwC: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    if map_hwC.shape[:2] == size:
        return map_hwC
    # Add the batch axis before permuting: only then does PyTorch see channels-last strides.
    nchw = F.interpolate(map_hwC[None].permute(0, 3, 1, 2), size=size, mode=mode)
    return nchw[0].permute(1, 2, 0)


@lru_cache(maxsize=1024)
def _row_weights(rows: range, h: int, height: int, mode: str) -> tuple[range, Tensor]:
    """What `rows` of `height` are made of: rows of a map that has `h`, and the weight of each of them (R, number)."""
    row, each = torch.arange(rows.start, rows.stop), torch.arange(len(rows))
    if mode == "nearest":
        above = below = row * h // height
        share = torch.zeros(len(rows))
    else:
        position = ((row + 0.5) * (h / height) - 0.5).clamp_min(0)
        above = position.long()
        below, share = (above + 1).clamp_max(h - 1), position - above
    source = range(int(above[0]), int(below[-1]) + 1)
    weights_Rh = torch.zeros(len(rows), len(source))
    weights_Rh[each, above - source.start] += 1 - share
    weights_Rh[each, below - source.start] += share
    return source, weights_Rh
