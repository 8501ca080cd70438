"""The page of changes between two models: the most changed images with both masks, and which class became which."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.overlay import css_colours
from ddpm_seg.evaluation.pages.contact_sheet import fetch_again, make_tile
from ddpm_seg.evaluation.pages.page import review_script, template
from ddpm_seg.evaluation.tables.changes import Changes

COMMONEST = 12


def write_changes_page(changes: Changes, uri: str) -> None:
    """Fetches the images again, and writes the page to `uri`."""
    fetch, palette = fetch_again({}), changes.task.palette
    with ThreadPoolExecutor(2) as readers:
        tiles = list(readers.map(lambda one: make_tile(one, one.masks, palette, fetch), changes.most))
    page = template("changes.html").render(
        **({"script": review_script()} if tiles else {}),
        changes=changes,
        models=changes.names or (changes.before, changes.after),
        tiles=tiles,
        values=[one.share for one in changes.most],
        classes=_classes(changes),
        became=_became(changes),
    )
    storage.write_bytes(uri, page.encode())


def _classes(changes: Changes) -> list[dict[str, Any]]:
    """Each class with its share of all pixels before and after."""
    total = max(1, int(changes.pixels.sum()))
    before, after = changes.pixels.sum(axis=1) / total, changes.pixels.sum(axis=0) / total
    colours = css_colours(changes.task.palette)
    return [
        {"name": name, "colour": colours[i], "before": float(before[i]), "after": float(after[i])}
        for i, name in enumerate(changes.task.class_names)
    ]


def _became(changes: Changes) -> list[dict[str, Any]]:
    """The commonest changes of class, each with its share of the old class's pixels."""
    off_diagonal = changes.pixels.copy()
    np.fill_diagonal(off_diagonal, 0)
    names = {**dict(enumerate(changes.task.class_names)), 255: "no class"}
    found = []
    for position in np.argsort(-off_diagonal, axis=None, kind="stable")[:COMMONEST].tolist():
        old, new = divmod(position, 256)
        if pixels := int(off_diagonal[old, new]):
            share = pixels / int(changes.pixels[old].sum())
            found.append({"before": names[old], "after": names[new], "pixels": pixels, "share": share})
    return found
