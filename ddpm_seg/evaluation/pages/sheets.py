"""Sheets of small pictures: a model's labels, its samples, and the nearest training images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.overlay import colorize
from ddpm_seg.evaluation.pages.heat import heat_colours
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.segmenter import Segmenter

GAP, MARGIN, TEXT_SIZE, SIDE = 6, 8, 13, 112  # pixels
GREY = (90, 90, 90)


def label_sheet(bundle: Bundle, annotations: Sequence[Annotation]) -> Image.Image:
    """One column per image: the image, its true mask, the predicted one and the ensemble's uncertainty; with a legend
    below."""
    segmenter = Segmenter(bundle)
    task = segmenter.task
    labels = segmenter.segment(np.stack([annotation.image for annotation in annotations]))
    highest = max(label.uncertainty.max() for label in labels)
    rows = {
        "image": [annotation.image for annotation in annotations],
        "true mask": [colorize(annotation.label, task.palette) for annotation in annotations],
        "predicted": [colorize(label.label, task.palette) for label in labels],
        "uncertainty": [heat_colours(label.uncertainty / highest) for label in labels],
    }
    return _legend(_labelled_rows(rows), dict(zip(task.class_names, task.palette, strict=True)))


def sample_sheet(samples: NDArray[np.uint8], columns: int) -> Image.Image:
    """Samples (N, S, S, 3) uint8 in rows of `columns`."""
    rows = [list(samples[start : start + columns]) for start in range(0, len(samples), columns)]
    return _grid(rows, left=0)


def neighbour_sheet(samples: NDArray[np.uint8], nearest: NDArray[np.uint8]) -> Image.Image:
    """One column per sample (N, S, S, 3): the sample, then its nearest training images `nearest` (N, K, S, S, 3)."""
    rows = {"sample": list(samples), "nearest": list(nearest[:, 0])}
    rows |= {f"{rank + 1}.": list(nearest[:, rank]) for rank in range(1, nearest.shape[1])}
    return _labelled_rows(rows)


def _labelled_rows(rows: dict[str, list[NDArray[np.uint8]]]) -> Image.Image:
    font = ImageFont.load_default(TEXT_SIZE)
    left = max(int(font.getlength(name)) for name in rows) + 2 * MARGIN
    sheet = _grid(list(rows.values()), left)
    draw = ImageDraw.Draw(sheet)
    for number, name in enumerate(rows):
        draw.text((MARGIN, number * (SIDE + GAP) + SIDE // 2), name, fill=GREY, font=font, anchor="lm")
    return sheet


def _grid(rows: list[list[NDArray[np.uint8]]], left: int) -> Image.Image:
    width = left + max(len(row) for row in rows) * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, len(rows) * (SIDE + GAP) - GAP), "white")
    for y, row in enumerate(rows):
        for x, pixels in enumerate(row):
            # Pixels stay sharp squares: smoothing would make them look better than they are.
            picture = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            sheet.paste(picture, (left + x * (SIDE + GAP), y * (SIDE + GAP)))
    return sheet


def _legend(sheet: Image.Image, colours: dict[str, tuple[int, int, int]]) -> Image.Image:
    font = ImageFont.load_default(TEXT_SIZE)
    tall = Image.new("RGB", (sheet.width, sheet.height + 3 * TEXT_SIZE), "white")
    tall.paste(sheet)
    draw = ImageDraw.Draw(tall)
    x, y = MARGIN, sheet.height + 2 * TEXT_SIZE
    for name, colour in colours.items():
        draw.rectangle((x, y - 6, x + 11, y + 5), fill=tuple(colour), outline=GREY)
        draw.text((x + 16, y), name, fill=GREY, font=font, anchor="lm")
        x += 28 + int(font.getlength(name))
    return tall
