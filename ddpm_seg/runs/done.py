"""Finds the inputs that an output's runs already contain in their current version.

The manifests answer this for nearly every input. Published rows are read only for inputs whose version the manifest
does not know, or which were replaced between planning and reading: a row records the version that was read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg.runs.ledger import KnownRun, input_keys, planned_ids, planned_inputs, planned_keys
from ddpm_seg.runs.manifest import INSIDE
from ddpm_seg.runs.view import read_view

_VERSION = ("etag", "size_bytes", "modified")


def are_planned(inputs: pa.Table, runs: list[KnownRun]) -> pa.ChunkedArray[Any]:
    """For each input (bool), whether one of these unfinished runs will contain it.

    True also for an input whose version the plan did not know, as it will be read in its current version, and for one
    whose current version is unknown, as it may be the planned one.
    """
    keys = planned_keys(runs)
    held, unknown_then = _held_and_unknown_then(inputs, keys)
    return pc.or_(pc.or_(held, unknown_then), _known_by_name(inputs, runs, pc.invert(held)))


def are_published(inputs: pa.Table, runs: list[KnownRun]) -> pa.ChunkedArray[Any]:
    """For each input (bool), whether these finished runs of one output, table and configuration contain it.

    An input whose current version is unknown counts as unchanged.
    """
    keys = planned_keys(runs)
    held, unknown_then = _held_and_unknown_then(inputs, keys)
    held = pc.or_(held, _known_by_name(inputs, runs, pc.invert(held)))
    # Rows can settle the rest if there is an etag; without one only the size, and only if the plan knew no version.
    asked = pc.and_(pc.invert(held), pc.or_(pc.is_valid(inputs["etag"]), unknown_then))
    asked = pc.and_(asked, _is_planned(inputs, runs, asked))
    return pc.or_(held, _read_as_now(inputs, runs, asked, unknown_then)) if pc.any(asked).as_py() else held


def images_planned_singly(units: pa.Table, runs: list[KnownRun]) -> dict[str, list[str]]:
    """For each of these containers, by URI, the URIs of images in it that these runs have as single inputs, of the same
    version of the container."""
    versions = dict(zip(units["uri"].to_pylist(), _versions(units), strict=True))
    found: dict[str, list[str]] = {}
    for batch in planned_inputs(runs, ["uri", *_VERSION]):
        inside = batch.filter(pc.match_substring(batch["uri"].cast(pa.string()), "#"))
        uris: list[Any] = inside["uri"].to_pylist()
        for uri, version in zip(uris, _versions(inside), strict=True):
            place = uri.find("#")
            while place >= 0:
                if versions.get(uri[:place]) == version:
                    found.setdefault(uri[:place], []).append(uri)
                place = uri.find("#", place + 1)
    return found


def _versions(inputs: pa.Table | pa.RecordBatch) -> list[tuple[Any, ...]]:
    """What tells versions apart: the ETag, or size and time where there is none."""
    rows = zip(*(inputs[name].to_pylist() for name in _VERSION), strict=True)
    return [(etag,) if etag is not None else (size, modified) for etag, size, modified in rows]


def in_published_containers(inputs: pa.Table, runs: list[KnownRun]) -> pa.ChunkedArray[Any]:
    """For each input (bool), whether it is an image in a container that these finished runs contain as a whole."""
    ids = inputs[INSIDE]
    containers = inputs.drop_columns(["image_id"]).append_column("image_id", pc.fill_null(ids, ""))
    return pc.and_(pc.is_valid(ids), are_published(containers, runs))


def _held_and_unknown_then(
    inputs: pa.Table, keys: pa.ChunkedArray[Any]
) -> tuple[pa.ChunkedArray[Any], pa.ChunkedArray[Any]]:
    """For each input, whether it is planned in its current version, and whether it is planned in an unknown version."""
    unknown = inputs.select(["image_id"])
    for name in _VERSION:
        unknown = unknown.append_column(name, pa.nulls(inputs.num_rows, inputs.schema.field(name).type))
    return pc.is_in(input_keys(inputs), value_set=keys), pc.is_in(input_keys(unknown), value_set=keys)


def _known_by_name(inputs: pa.Table, runs: list[KnownRun], asked: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Among the inputs marked in `asked`, those without a known version whose image is planned in any version."""
    for name in _VERSION:
        asked = pc.and_(asked, pc.is_null(inputs[name]))
    return pc.and_(asked, _is_planned(inputs, runs, asked))


def _is_planned(inputs: pa.Table, runs: list[KnownRun], asked: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    ids = inputs["image_id"]
    if not runs or not pc.any(asked).as_py():
        return pc.and_(asked, False)
    return pc.is_in(ids, value_set=planned_ids(runs, ids.filter(asked)))


def _read_as_now(
    inputs: pa.Table, runs: list[KnownRun], asked: pa.ChunkedArray[Any], unknown_then: pa.ChunkedArray[Any]
) -> pa.ChunkedArray[Any]:
    """For each input marked in `asked`, whether its latest row was read from the current version."""
    layout = runs[0].layout
    wanted: list[Any] = inputs["image_id"].filter(asked).to_pylist()
    columns = ["image_id", "etag", "size_bytes"]
    try:
        rows = read_view(
            layout.output, layout.table, config_hash=layout.config_hash, columns=columns, image_ids=wanted
        ).to_pylist()
    except FileNotFoundError:
        return pc.and_(asked, False)
    read = {row["image_id"]: (row["etag"], row["size_bytes"]) for row in rows}
    same = np.zeros(inputs.num_rows, bool)
    positions = np.flatnonzero(asked.to_numpy())
    now = inputs.select([*columns]).take(pa.array(positions)).to_pylist()
    trusted = unknown_then.take(pa.array(positions)).to_pylist()
    for position, item, was_unknown in zip(positions, now, trusted, strict=True):
        etag, size = read.get(item["image_id"], (None, None))
        if etag is not None:
            same[position] = etag == item["etag"]
        else:
            same[position] = was_unknown and size is not None and size == item["size_bytes"]
    return pa.chunked_array([pa.array(same)])
