"""URIs that images are read under where tables store others: signatures and credentials are never stored.

Only the listing of the present call knows them. A plan marks the inputs that have one, so that a later call does not
read them without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.data.inputs import sources
from ddpm_seg.runs.layout import published_shards
from ddpm_seg.runs.ledger import KnownRun
from ddpm_seg.runs.manifest import stored_uri
from ddpm_seg.spool import Spool

SIGNED: pa.Field[Any] = pa.field("signed", pa.bool_())
"""Manifest column: whether a list has the input under another URI than the stored one. Absent if none is, and from
manifests of earlier releases."""

SHOWN = 3  # inputs that an error message names


def noted(files: Iterable[storage.FileInfo], read_uris: dict[str, str]) -> Iterator[storage.FileInfo]:
    """The files. Fills `read_uris`, which maps the stored URI to the one to read, where they differ."""
    for file in files:
        uri = stored_uri(file.uri)
        if uri != file.uri:
            read_uris[uri] = file.uri
        yield file


def read_uri(uri: str, read_uris: Mapping[str, str]) -> str:
    """The URI to read for a stored one, also of an image in a container that was listed as a whole."""
    if uri in read_uris:
        return read_uris[uri]
    container, member = sources.split(uri)
    return read_uris.get(container, container) + member


def with_signed(inputs: pa.Table, read_uris: Mapping[str, str]) -> pa.Table:
    """The inputs with the column SIGNED."""
    uris: list[Any] = inputs["uri"].to_pylist()
    return inputs.append_column(SIGNED, pa.array([read_uri(uri, read_uris) != uri for uri in uris], SIGNED.type))


def refuse_unlisted(unfinished: Sequence[KnownRun], inputs: Spool, read_uris: Mapping[str, str]) -> None:
    """Raises ValueError if an unfinished run still has to read inputs under a URI that only another list has: neither
    `inputs` nor `read_uris`, which come from the present one, know them."""
    for run in unfinished:
        lacking = _not_among(inputs, [uri for uri in _to_read(run) if read_uri(uri, read_uris) == uri])
        if lacking:
            more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
            raise ValueError(
                f"{run.layout.run_id} under {storage.redact(run.layout.output)} was interrupted and needs the list "
                f"that has these: {', '.join(lacking[:SHOWN])}{more}. Their signatures are never stored, and without "
                "them each would become an error. Finish the run with that list as --input (new signatures will do) "
                "and without --redo, then label this one"
            )


def _to_read(run: KnownRun) -> list[str]:
    """The stored URIs of the run's SIGNED inputs that are not published yet."""
    items = run.manifest.items
    if SIGNED.name not in items.column_names:
        return []
    published = np.isin(items["shard"].to_numpy(), list(published_shards(run.layout)))
    uris: list[Any] = items.filter(pc.and_(items[SIGNED.name], pa.array(~published)))["uri"].to_pylist()
    return uris


def _not_among(inputs: Spool, uris: Sequence[str]) -> list[str]:
    """Those of the URIs that are neither in `inputs` nor in a container there."""
    if not uris:
        return []
    asked = {uri: {uri, sources.split(uri)[0]} for uri in uris}
    names, found = pa.array(sorted(set().union(*asked.values())), pa.string()), set[Any]()
    for batch in inputs.batches():
        found |= set(batch["uri"].filter(pc.is_in(batch["uri"], value_set=names)).to_pylist())
    return [uri for uri in uris if not asked[uri] & found]
