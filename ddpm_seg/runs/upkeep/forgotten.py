"""Which images an output must not have again: a record of ids, which says nothing to anyone who lacks the names."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timezone
from functools import partial
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.runs.layout import uris_under
from ddpm_seg.runs.manifest import UNIT, WITHOUT, image_id
from ddpm_seg.runs.parquet import encode, read_table

FOLDER = "forgotten"


def record_forgotten(output: str, names: Collection[str]) -> str:
    """Records the stored URIs `names` as ids, with the time; returns the URI of the record, a new file."""
    ids = sorted(map(image_id, names))
    now = datetime.now(timezone.utc)
    table = pa.table({"image_id": ids, "forgotten_at": pa.array([now] * len(ids), pa.timestamp("us", tz="UTC"))})
    number = len(uris_under(storage.join(output, FOLDER)))
    while True:
        uri = storage.join(output, FOLDER, f"forgotten-{number:06d}.parquet")
        if storage.create_bytes(uri, encode(table)):
            return uri
        number += 1


def copy_forgotten(source: str, output: str) -> None:
    """Copies the records of one output to another that gets its rows: the images must not come back there."""
    for uri in uris_under(storage.join(source, FOLDER)):
        storage.write_bytes(storage.join(output, FOLDER, uri.rpartition("/")[2]), storage.read_bytes(uri))


def forgotten_ids(output: str) -> set[str]:
    """The ids (see `image_id`) of the images, and containers of images, that were ever forgotten."""
    records = [uri for uri in uris_under(storage.join(output, FOLDER)) if uri.endswith(".parquet")]
    return {str(name) for uri in records for name in read_table(uri)["image_id"].to_pylist()}


def is_forgotten(uri: str, ids: Collection[str]) -> bool:
    """Whether the image with this stored URI is forgotten, alone or with the container that it is in."""
    if image_id(uri) in ids:
        return True
    place = uri.find("#")
    while place >= 0:
        if image_id(uri[:place]) in ids:
            return True
        place = uri.find("#", place + 1)
    return False


def forgotten_filter(output: str) -> Callable[[pa.Table], pa.Table]:
    """A function that returns those of a table's inputs that are not forgotten. Column WITHOUT does not name them
    either."""
    ids = forgotten_ids(output)
    return partial(_without, ids, pa.array(sorted(ids), pa.string())) if ids else lambda items: items


def _without(ids: Collection[str], sorted_ids: pa.Array[Any], items: pa.Table) -> pa.Table:
    items = items.filter(pc.invert(pc.is_in(items["image_id"], value_set=sorted_ids)))
    # The id of a container may depend on which of its images were chosen, and an image may go with its container.
    maybe = pc.match_substring(items["uri"], "#")
    if UNIT in items.column_names:
        maybe = pc.or_(maybe, pc.is_valid(items[UNIT]))
    uris: list[Any] = items["uri"].to_pylist()
    kept = [not (other and is_forgotten(uri, ids)) for uri, other in zip(uris, maybe.to_pylist(), strict=True)]
    items = items.filter(pa.array(kept, pa.bool_()))
    if WITHOUT not in items.column_names:
        return items
    place, lists = items.schema.get_field_index(WITHOUT), cast("list[Any]", items[WITHOUT].to_pylist())
    named = [None if one is None else [name for name in one if not is_forgotten(name, ids)] for one in lists]
    return items.set_column(place, WITHOUT, pa.array(named, items.schema.field(place).type))
