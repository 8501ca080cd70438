"""Finds the inputs that an output's runs already contain in their current version.

The manifests answer this for nearly every input. Published rows are read only for inputs whose version the manifest
does not know, or which were replaced between planning and reading: a row records the version that was read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ddpm_seg.runs.key_set import KeySet
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.ledger import KEY_COLUMNS, KnownRun, key_list, name_key, planned_inputs, version_key
from ddpm_seg.runs.manifest import INSIDE
from ddpm_seg.runs.view import shards_read

_VERSION = ("etag", "size_bytes", "modified")


class Known:
    """What some runs of one output, table and configuration, oldest first, contain: looked up for one batch of inputs
    at a time. An image is known in the version of the last of these runs: its row is the current one."""

    def __init__(self, runs: list[KnownRun]) -> None:
        self._keys = KeySet(key_list(rows) for rows in planned_inputs(runs, KEY_COLUMNS))
        self._layout = runs[0].layout if runs else None

    def are_planned(self, inputs: pa.Table) -> NDArray[np.bool_]:
        """For each input, whether one of these unfinished runs will contain it.

        True also for an input whose version the plan did not know, as it will be read in its current version, and for
        one whose current version is unknown, as it may be the planned one.
        """
        names = _names(inputs["image_id"])
        return self._keys.has(key_list(inputs)) | self._unknown_then(names) | self._known_by_name(inputs, names)

    def have_names(self, inputs: pa.Table) -> NDArray[np.bool_]:
        """For each input, whether one of these runs contains it in any version."""
        return self._keys.has_names(_names(inputs["image_id"]))

    def are_published(self, inputs: pa.Table, read: KeySet) -> tuple[NDArray[np.bool_], bytes]:
        """For each input, whether these finished runs contain it; and the names of inputs for which the published rows
        decide, unless `read` (see `read_versions`) knows them: those count as not contained.

        An input whose current version is unknown counts as unchanged.
        """
        if not len(self._keys):
            return np.zeros(inputs.num_rows, bool), b""
        names = _names(inputs["image_id"])
        held, unknown_then = self._keys.has(key_list(inputs)), self._unknown_then(names)
        held |= self._known_by_name(inputs, names)
        # Rows can settle the rest if there is an etag; without one only the size, and only if the plan knew no version.
        asked = ~held & (_is_known(inputs, "etag") | unknown_then) & self._keys.has_names(names)
        same = _is_known(inputs, "etag") & read.has(_read_keys(names, inputs["etag"], inputs["size_bytes"]))
        of_size = read.has(_read_keys(names, pa.nulls(len(names)), inputs["size_bytes"]))
        same |= unknown_then & _is_known(inputs, "size_bytes") & of_size
        return held | (asked & same), b"".join(names[place] for place in np.flatnonzero(asked))

    def read_versions(self, asked: bytes | bytearray) -> KeySet:
        """The versions from which the latest published rows of the images with these names, one after another, were
        read."""
        if self._layout is None or not asked:
            return KeySet([])
        return KeySet(_keys_read(self._layout, KeySet.of_names(asked)))

    def _unknown_then(self, names: list[bytes]) -> NDArray[np.bool_]:
        """Which names are known in an unknown version."""
        return self._keys.has([name + _UNKNOWN for name in names])

    def _known_by_name(self, inputs: pa.Table, names: list[bytes]) -> NDArray[np.bool_]:
        """The inputs without a known version whose image is planned."""
        known = [_is_known(inputs, name) for name in _VERSION]
        unknown = ~np.logical_or.reduce(known)
        return unknown & self._keys.has_names(names) if unknown.any() else unknown


_UNKNOWN = version_key("None None")


def _names(image_ids: pa.ChunkedArray[Any]) -> list[bytes]:
    return [name_key(name) for name in image_ids.to_pylist()]


def _is_known(inputs: pa.Table, column: str) -> NDArray[np.bool_]:
    return inputs[column].is_valid().to_numpy()


def _read_keys(names: list[bytes], etags: Any, sizes: Any) -> list[bytes]:
    """The key of the etag that was read or, without one, of the size."""
    rows = zip(names, etags.to_pylist(), sizes.to_pylist(), strict=True)
    return [name + version_key(f"etag {etag}" if etag is not None else f"size {size}") for name, etag, size in rows]


def _keys_read(layout: RunLayout, wanted: KeySet) -> Iterator[list[bytes]]:
    """The `_read_keys` of every published row of the `wanted` images, oldest run first."""
    columns = ["image_id", "etag", "size_bytes"]
    with suppress(FileNotFoundError):  # nothing was published yet
        for _, rows in shards_read(layout.output, layout.table, columns, config_hash=layout.config_hash):
            rows = rows.filter(pa.array(wanted.has_names(_names(rows["image_id"]))))
            yield _read_keys(_names(rows["image_id"]), rows["etag"], rows["size_bytes"])


def images_planned_singly(units: pa.Table, runs: list[KnownRun]) -> dict[str, list[str]]:
    """For each of these containers, by URI, the URIs of images in it that these runs, oldest first, have as single
    inputs, of the same version of the container. An image counts as last planned, alone or with its container."""
    wanted: list[Any] = units["uri"].to_pylist()
    versions = dict(zip(wanted, _versions(units), strict=True))
    found: dict[str, dict[str, None]] = {uri: {} for uri in versions}
    whole = pa.array(wanted, pa.string())
    for batch in planned_inputs(runs, ["uri", *_VERSION]):
        names = batch["uri"].cast(pa.string())
        here = batch.filter(pc.or_(pc.match_substring(names, "#"), pc.is_in(names, value_set=whole)))
        uris: list[Any] = here["uri"].to_pylist()
        for uri, version in zip(uris, _versions(here), strict=True):
            if uri in versions and version != versions[uri]:
                found[uri].clear()
            place = uri.find("#")
            while place >= 0:
                if uri[:place] in versions:
                    found[uri[:place]].pop(uri, None)
                    if version == versions[uri[:place]]:
                        found[uri[:place]][uri] = None
                place = uri.find("#", place + 1)
    return {uri: list(images) for uri, images in found.items() if images}


def _versions(inputs: pa.Table | pa.RecordBatch) -> list[tuple[Any, ...]]:
    """What tells versions apart: the ETag, or size and time where there is none."""
    rows = zip(*(inputs[name].to_pylist() for name in _VERSION), strict=True)
    return [(etag,) if etag is not None else (size, modified) for etag, size, modified in rows]


def container_rows(inputs: pa.Table) -> pa.Table:
    """The inputs that are images in a container, with the id of that container (column INSIDE) in place of theirs."""
    inside = inputs.filter(pc.is_valid(inputs[INSIDE]))
    return inside.set_column(inside.schema.get_field_index("image_id"), "image_id", inside[INSIDE])
