"""A resident model whose answer for an image is the mean over several views of it (see `views`)."""

# Shapes: N images of S x S pixels, the network's side; K classes; canvases are F times finer (`views.finer`).

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.fits import Average
from ddpm_seg.model.device.copies import to_host
from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.model.views import SHIFTS, finer, passes, views_of
from ddpm_seg.model.voting import Votes, probabilities_and_entropy

if TYPE_CHECKING:
    from ddpm_seg.model.segmenter import Segmenter
    from ddpm_seg.model.student_segmenter import StudentSegmenter


class Averaged:
    """`model`, but with the mean of its answers for several views of each image.

    A pixel's label is the class with the largest mean probability. Its uncertainty is the Jensen-Shannon divergence
    between all members in all views; for a student, the entropy of the mean. The classes of a mirror image are swapped
    as the task's `mirror_pairs` say.
    """

    def __init__(self, model: Segmenter | StudentSegmenter, average: Average) -> None:
        self.model, self.average = model, average
        self.task, self.device = model.task, model.device
        self.image_size = model.image_size * finer(average)
        """Side of the images that it takes: for shifts, twice that of its answers."""
        self.swapped = torch.tensor(model.task.mirrored_ids, device=model.device)

    def segment(self, images: NDArray[np.uint8]) -> list[PixelLabels]:
        """Labels (S, S) for `images` (N, F S, F S, 3) uint8 RGB, in order; their top classes are (F S, F S).

        Raises what the model's own `segment` raises.
        """
        found = (self.calibrated(votes).arrays() for votes in self.votes(images))
        return [PixelLabels(**arrays) for arrays in to_host(found, self.device)]

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Mean softmax (K, F S, F S) float32 for one `image` (F S, F S, 3) uint8."""
        votes = self.calibrated(next(self.votes(image[None])))
        found = votes.probabilities if votes.finer is None else votes.finer
        return found.cpu().numpy()

    @torch.inference_mode()
    def votes(self, images: NDArray[np.uint8]) -> Iterator[Votes]:
        """Yields the mean votes for each of `images`, before calibration."""
        size = self.image_size
        if images.ndim != 4 or images.shape[1:] != (size, size, 3) or images.dtype != np.uint8:
            raise ValueError(f"images must be (N, {size}, {size}, 3) uint8, got {images.shape} {images.dtype}")
        seen = [view for image in images for view in views_of(image, self.average)]
        votes = self.model.votes(np.stack(seen)) if seen else iter(())
        for _ in images:
            yield self._mean([next(votes) for _ in range(passes(self.average))])

    def calibrated(self, votes: Votes) -> Votes:
        """`votes` with the model's calibration; unchanged if it has none."""
        return self.model.calibrated(votes)

    def _mean(self, views: Sequence[Votes]) -> Votes:
        """The mean of an image's views, on the grid of the image."""
        placed = [self._placed(number, probabilities_and_entropy(one)) for number, one in enumerate(views)]
        mean = torch.stack(placed).mean(dim=0)
        fine = mean[:-1] if finer(self.average) > 1 else None
        if fine is not None:
            mean = F.avg_pool2d(mean[None], finer(self.average))[0]
        p_KSS, entropy_SS = mean[:-1], mean[-1]
        confidence, label = p_KSS.max(dim=0)
        return Votes(
            label=label.to(torch.uint8),
            uncertainty=(torch.special.entr(p_KSS).sum(dim=0) - entropy_SS).clamp_min(0),
            confidence=confidence,
            probabilities=p_KSS,
            finer=fine,
            domain_distance=views[0].domain_distance,
        )

    def _placed(self, number: int, maps: Tensor) -> Tensor:
        """Maps (K + 1, S, S) of view `number`, where they lie on the canvas: (K + 1, F S, F S)."""
        if self.average == "shifts":
            return _shifted_back(maps, *SHIFTS[number])
        if self.average == "mirror" and number == 1:
            turned = maps.flip(-1)
            return torch.cat([turned[:-1][self.swapped], turned[-1:]])
        return maps


def _shifted_back(maps: Tensor, row: int, column: int) -> Tensor:
    """Maps (C, S, S) interpolated on the grid (C, 2 S, 2 S) that `views_of` took the view from; edges are repeated."""
    large = F.interpolate(maps[None], scale_factor=2, mode="bilinear")
    height, width = large.shape[2:]
    return F.pad(large, (column, 0, row, 0), mode="replicate")[0, :, :height, :width]
