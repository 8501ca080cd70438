"""Processor time per image of all that surrounds the network: decoding, fitting, the mask at its own size, PNGs.

    python -m tests.measurements.image_cost --rounds 20

For JPEGs (quality 90) of 256 x 256 and of two megapixels, on a canvas of 256 x 256. Milliseconds of one core, medians
of rounds, with the decoding process's share. "Scaled" is libjpeg-turbo's decoding to a fraction of the size, which the
job does not use: how far its canvas is from the usual one is printed beside it.
"""

from __future__ import annotations

import argparse
import io
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.data.canvas import fit
from ddpm_seg.data.decoding import decoder
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS
from ddpm_seg.data.image_labels import image_labels, own_size_mask
from ddpm_seg.data.masks.statistics import own_size_statistics
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.kept_memory import keep_freed_memory
from ddpm_seg.model.pixel_labels import PixelLabels

SIDE, CLASSES = 256, 34
SIZES = ((256, 256), (1632, 1224))
NAMES = tuple(map(str, range(CLASSES)))


def picture(width: int, height: int) -> Image.Image:
    """Blots of many sizes, with grain: about as large a file as a photograph."""
    generator = np.random.default_rng(0)
    total = np.zeros((height, width, 3))
    for cells in (4, 16, 64):
        coarse = generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        total += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray((total / 3 + generator.normal(0, 4, total.shape)).clip(0, 255).astype(np.uint8))


def answer() -> PixelLabels:
    """Labels of a network in 34 classes, in patches."""
    generator = np.random.default_rng(1)
    patches = generator.integers(0, CLASSES, (16, 16), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    others = [((patches + step) % CLASSES).astype(np.uint8) for step in range(3)]
    probabilities = [np.full(patches.shape, value, np.uint8) for value in (180, 50, 20)]
    sure = np.full(patches.shape, 0.7, np.float32)
    return PixelLabels(
        label=patches,
        uncertainty=1 - sure,
        confidence=sure,
        top_ids=np.stack(others),
        top_probabilities=np.stack(probabilities),
    )


def processor_ms() -> float:
    """Of this process and of the decoding processes."""
    pids = ["self", *(str(child.pid) for child in decoder._idle)]
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e6


def scaled(data: bytes) -> NDArray[np.uint8]:
    """The canvas by way of the smallest decoding that has twice the canvas's pixels on each side."""
    return fit(simplejpeg.decode_jpeg(data, "RGB", min_height=2 * SIDE, min_width=2 * SIDE, min_factor=1), SIDE)[0]


def ways(width: int, height: int) -> dict[str, Callable[[], object]]:
    buffer = io.BytesIO()
    picture(width, height).save(buffer, "JPEG", quality=90)
    data, found = buffer.getvalue(), answer()
    pixels = simplejpeg.decode_jpeg(data, "RGB")
    canvas, placement = decoder.decode_and_fit(data, DEFAULT_LIMITS, SIDE, "letterbox")
    near, fine = (own_size_mask(found, placement, resize) for resize in ("nearest", "bilinear"))
    difference = np.abs(canvas.astype(int) - scaled(data))
    print(f"{width} x {height}: {len(data)} bytes; canvas of the scaled decoding: mean difference "
          f"{difference.mean():.2f} of 255, largest {difference.max()}")  # fmt: skip
    return {
        "decode and fit, as the job does": lambda: decoder.decode_and_fit(data, DEFAULT_LIMITS, SIDE, "letterbox"),
        "decode alone: simplejpeg": lambda: simplejpeg.decode_jpeg(data, "RGB"),
        "decode alone: Pillow": lambda: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
        "decode alone, scaled": lambda: scaled(data),
        "fit alone": lambda: fit(pixels, SIDE),
        "mask, nearest": lambda: own_size_mask(found, placement, "nearest"),
        "mask, bilinear": lambda: own_size_mask(found, placement, "bilinear"),
        "mask and statistics, nearest": lambda: image_labels(found, placement, NAMES),
        "statistics, bilinear": lambda: own_size_statistics(fine, found.uncertainty, placement, NAMES),
        "PNG of the mask, nearest": lambda: encode_png(near.mask),
        "PNG of the mask, bilinear": lambda: encode_png(fine.mask),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    keep_freed_memory()
    for size in SIZES:
        works = ways(*size)
        spent: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(options.rounds):
            for name, work in works.items():
                before = processor_ms()
                for _ in range(5):
                    work()
                spent[name].append((processor_ms() - before) / 5)
        for name, values in spent.items():
            print(f"  {name}: {statistics.median(values):.2f} ms")


if __name__ == "__main__":
    main()
