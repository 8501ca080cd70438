"""The annotated images that a list names, or whose masks a person accepted."""

from __future__ import annotations

from ddpm_seg import storage
from ddpm_seg.data.annotations.find import find_pairs
from ddpm_seg.data.annotations.forms.table import pair_of_row, reading_task
from ddpm_seg.data.annotations.image_places import ImagePlaces
from ddpm_seg.data.annotations.pair import Pair
from ddpm_seg.data.inputs.labelled_image import VERSION
from ddpm_seg.data.inputs.verdicts import Chosen, read_chosen
from ddpm_seg.evaluation.tables.selection import select
from ddpm_seg.runs.manifest import read_info
from ddpm_seg.runs.parquet import read_rows
from ddpm_seg.runs.view import configurations
from ddpm_seg.tasks import Task


def accepted_pairs(images: str, only: str, task: Task, image_root: str | None) -> list[Pair]:
    """The pairs at `images` that the file `only` accepts; `images` may also be what jobs.label wrote.

    Raises ValueError (AnnotationError) if there are none, or the masks are of other classes.
    """
    chosen = read_chosen(only, "accept")
    if _is_labelled(images):
        return _labelled_pairs(images, chosen, task, image_root)
    pairs = [pair for pair in find_pairs(images, task, image_root) if storage.redact(pair.image) in chosen.names]
    chosen.check_found([storage.redact(pair.image) for pair in pairs], storage.redact(images))
    return pairs


def _is_labelled(uri: str) -> bool:
    try:
        return bool(configurations(uri, "labels"))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _labelled_pairs(output: str, chosen: Chosen, task: Task, image_root: str | None) -> list[Pair]:
    found = select(output, config_hash=_judged_configuration(output, chosen), only=chosen)
    assert found.task is not None  # labels have one
    task = reading_task(output, found.task, task)
    places, pairs = ImagePlaces(storage.join(storage.place(output), "labels"), image_root), []
    for shard, numbers in found.shards:
        tables = read_rows(shard, numbers, ["uri", *VERSION, "mask", "run_id"])
        for row in (row for table in tables for row in table.to_pylist()):
            judged = chosen.entries[row["uri"]].run_id
            if judged and judged != row["run_id"]:
                raise ValueError(
                    f"{row['uri']} was accepted as {judged} labelled it, but {row['run_id']} has labelled it again: "
                    f"take it out of {chosen.source}, or judge it in the report of {row['run_id']}"
                )
            pairs.append(pair_of_row(f"the mask of {row['uri']}", row, task, places))
    if not pairs:
        raise ValueError(f"none of the images that {chosen.source} accepts has a mask in {storage.redact(output)}")
    return sorted(pairs, key=lambda pair: pair.image)


def _judged_configuration(output: str, chosen: Chosen) -> str | None:
    """The configuration whose masks were judged; None if the file does not say."""
    runs = sorted({entry.run_id for entry in chosen.entries.values()} - {""})
    known = {read_info(storage.join(output, "runs", run, "manifest.parquet")).config_hash for run in runs}
    if len(known) > 1:
        raise ValueError(f"{chosen.source} judges masks of several models ({', '.join(runs)}): give each its own file")
    return next(iter(known), None)
