"""One labelled image as HTML, for notebooks: the image beside its mask, and a table of its classes."""

from __future__ import annotations

import base64
import html

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.data.overlay import Palette, css_colours, overlay
from ddpm_seg.data.statistics import ImageStatistics
from ddpm_seg.data.table_pictures import encode_png

SIDE = 320
"""Longer side as shown, in pixels: larger images are reduced, smaller ones enlarged with sharp pixels."""


def result_html(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    statistics: ImageStatistics,
    palette: Palette,
    *,
    outside: bool = False,
) -> str:
    """The HTML of an image (H, W, 3) uint8 and its mask (H, W) uint8; `palette` has a colour per class.

    `outside` adds a warning that the image is unlike those that the model was trained on.
    """
    pictures = "".join(
        _picture(pixels, what)
        for pixels, what in ((image, "image"), (overlay(image, mask, palette), "mask over image"))
    )
    colours = css_colours(palette)
    largest_first = sorted(statistics.classes, key=lambda entry: -entry.pixels)
    rows = "".join(
        f'<tr><td><span style="background:{colours[entry.class_id]};display:inline-block;width:1em;height:1em">'
        f"</span></td><td>{html.escape(entry.class_name)}</td><td>{entry.fraction:.1%}</td>"
        f"<td>{entry.mean_confidence:.2f}</td></tr>"
        for entry in largest_first
    )
    table = f"<table><tr><th></th><th>class</th><th>area</th><th>confidence</th></tr>{rows}</table>"
    title = f"{mask.shape[1]} × {mask.shape[0]} pixels, uncertainty {statistics.uncertainty:.3f} nats"
    if outside:
        title += ". <b>Unlike the training images: do not trust these labels.</b>"
    return f'<div><p>{title}</p><div style="display:flex;flex-wrap:wrap;gap:8px">{pictures}{table}</div></div>'


def _picture(pixels: NDArray[np.uint8], what: str) -> str:
    picture = Image.fromarray(pixels)
    scale = SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    if scale < 1:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    data = base64.b64encode(encode_png(np.asarray(picture))).decode()
    style = "image-rendering:pixelated" if scale > 1 else ""
    return f'<img alt="{what}" width="{width}" height="{height}" style="{style}" src="data:image/png;base64,{data}">'
