"""Writes the page and the list of the images that are chosen to be annotated next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.csv_text import csv_text
from ddpm_seg.data.overlay import css_colours
from ddpm_seg.data.table_pictures import cell_bytes
from ddpm_seg.evaluation.pages.contact_sheet import fetch_again, make_tiles
from ddpm_seg.evaluation.pages.page import template
from ddpm_seg.evaluation.tables.active import farthest_first, uncertainty_by_class
from ddpm_seg.evaluation.tables.selection import read_task
from ddpm_seg.runs.view import choose, read_labels

LIST, PAGE = "annotate_next.csv", "annotate_next.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One image of the list."""

    image_id: str
    uri: str
    uncertainty: float
    width: int
    height: int


def write_active(
    output: str, count: int, *, config_hash: str, read_uris: Mapping[str, str] | None = None
) -> list[Choice]:
    """Writes `annotate_next.csv` (image URIs, a list that `jobs.label` reads) and `annotate_next.html` under `output`.

    Chooses at most `count` images from the labels of `config_hash`. `read_uris` maps a stored URI to the one to read,
    where they differ. Raises FileNotFoundError if there are no labels.
    """
    columns = ["image_id", "uri", "status", "uncertainty", "width", "height", "classes", "model_id"]
    labels = read_labels(output, config_hash=config_hash, columns=columns)
    task = read_task(choose(output, "labels", config_hash).shards[0])
    labels = labels.filter(pc.equal(labels["status"], "ok"))
    order = farthest_first(uncertainty_by_class(labels["classes"], task.num_classes), count)
    rows = labels.select(list(Choice.__annotations__)).take(pa.array(order, pa.int64())).to_pylist()
    chosen = [Choice(**row) for row in rows]
    masks = read_labels(
        output,
        config_hash=config_hash,
        columns=["image_id", "uri", "mask"],
        image_ids=[choice.image_id for choice in chosen],
    )
    mask_of = {row["image_id"]: cell_bytes(row["mask"]) for row in masks.to_pylist()}
    fetch = fetch_again(read_uris or {})
    tiles = make_tiles(chosen, [mask_of[choice.image_id] for choice in chosen], task.palette, fetch)
    colours = css_colours(task.palette)
    page = template("active.html").render(
        model_id=labels["model_id"][0].as_py() if labels.num_rows else "",
        output=storage.redact(output),
        command=_command(output, config_hash),
        task=task.name,
        images=labels.num_rows,
        uncertainty=pc.mean(labels["uncertainty"]).as_py() or 0.0,
        chosen_uncertainty=float(np.mean([choice.uncertainty for choice in chosen])) if chosen else 0.0,
        classes=[{"name": name, "colour": colour} for name, colour in zip(task.class_names, colours, strict=True)],
        tiles=list(tiles),
    )
    storage.write_bytes(storage.join(output, PAGE), page.encode())
    storage.write_bytes(storage.join(output, LIST), _as_csv(chosen))
    return chosen


def _command(output: str, config_hash: str) -> str:
    """What brings the chosen images and their masks into an annotation tool."""
    place = storage.redact(output)
    words = ("--labels", place, "--config-hash", config_hash, "--only", storage.join(place, LIST))
    return shlex.join(("ddpm-seg", "export", *words, "--to", "label-studio", "--output", "to-annotate"))


def _as_csv(chosen: list[Choice]) -> bytes:
    return csv_text(["uri", "uncertainty"], ([one.uri, f"{one.uncertainty:.6g}"] for one in chosen)).encode()
