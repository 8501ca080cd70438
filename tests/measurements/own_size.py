"""Masks at the image's own size: what each way of making them scores, and what it costs.

    python -m tests.measurements.own_size                                  # 100 avatars at 256 pixels
    python -m tests.measurements.own_size --model BUNDLE --images FOLDER   # annotated images of your own

Each image goes through the network once for each --averages; its answer becomes a mask in every way. The image that
guides refinement is the one the network sees, and the same with noise of 12 and 25 grey levels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.avatars.render import render
from ddpm_seg.data.canvas import fit, tile_canvas
from ddpm_seg.data.decoding.decoder import read_apart
from ddpm_seg.data.fit_options import Refine, Resize
from ddpm_seg.data.image_labels import own_size_mask
from ddpm_seg.evaluation.scores.own_size import OwnSizeCounts, count, summary
from ddpm_seg.fits import Average
from ddpm_seg.model.averaged import Averaged
from ddpm_seg.model.tiles import segment_tiles
from ddpm_seg.model.trained import load_model, resident
from ddpm_seg.model.views import finer

if TYPE_CHECKING:
    from ddpm_seg.model.trained import ResidentModel

SEED = 290029  # nothing else draws from it
SIZE = 256
WAYS: list[tuple[Resize, Refine]] = [
    ("nearest", "none"),
    ("bilinear", "none"),
    ("bilinear", "bilateral"),
    ("bilinear", "guided"),
]
NOISES = (0, 12, 25)
AVERAGES: tuple[Average, ...] = ("none", "mirror", "shifts")


@dataclass(kw_only=True)
class Found:
    """What one way of making masks came to."""

    counts: list[OwnSizeCounts] = field(default_factory=list)
    seconds: float = 0
    pixels: int = 0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="avatars-10")
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--images", help="annotated images, as jobs.evaluate takes them; default: avatars")
    parser.add_argument("--averages", nargs="+", choices=AVERAGES, default=["none"])
    parser.add_argument("--noises", nargs="+", type=int, default=NOISES)
    parser.add_argument("--tiles", nargs="+", type=float, default=[], help="also in squares at these scales")
    options = parser.parse_args(arguments)
    segmenter = resident(load_model(options.model))
    assert not isinstance(segmenter, Averaged)
    found: dict[str, Found] = {}
    draw = np.random.default_rng(0)
    for image, target in _images(options.images, options.number, segmenter):
        for average in options.averages:
            model = segmenter if average == "none" else Averaged(segmenter, average)
            canvas, placement = fit(image, segmenter.image_size, finer=finer(average))
            (answer,) = model.segment(canvas[None])
            for resize, refine in WAYS:
                for noise in options.noises if refine != "none" else (0,):
                    guide = np.clip(image + draw.normal(0, noise, image.shape), 0, 255).round().astype(np.uint8)
                    name = f"{average}, {resize if refine == 'none' else refine}, noise {noise}"
                    one = found.setdefault(name, Found())
                    start = time.process_time()
                    mask = own_size_mask(answer, placement, resize, refine, guide)
                    one.seconds += time.process_time() - start
                    one.pixels += target.size
                    one.counts.append(count(mask.mask, mask.confidence, target, segmenter.task))
        for scale in options.tiles:
            canvas, placement = fit(image, tile_canvas(image, segmenter.image_size, scale))
            (answer,) = segment_tiles(segmenter, [canvas])
            mask = own_size_mask(answer, placement, "bilinear")
            one = found.setdefault(f"tiles at {scale:g}", Found(pixels=1))
            one.counts.append(count(mask.mask, mask.confidence, target, segmenter.task))
    print(f"{'':<30} mIoU   boundary 2 px  2 %    s/megapixel")
    for name, one in found.items():
        scores = summary(one.counts, segmenter.task)
        cells = [scores[key] or float("nan") for key in ("usual_miou", "boundary_iou_2px", "boundary_iou")]
        print(f"{name:<30} {cells[0]:.4f} {cells[1]:>13.4f} {cells[2]:.4f} {1e6 * one.seconds / one.pixels:>9.3f}")


def _images(uri: str | None, number: int, segmenter: ResidentModel) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Image and annotation at their own size."""
    if uri is None:
        for index in range(number):
            yield render(SEED, index, SIZE)
        return
    for one in load_annotations(uri, image_size=segmenter.image_size, task=segmenter.task, limit=number, own_size=True):
        assert one.own is not None
        yield read_apart(one.own.read_image()).pixels, one.own_label()


if __name__ == "__main__":
    main()
