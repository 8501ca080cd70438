"""Reads the current content of an output: the latest row of each input among everything ever published."""

from __future__ import annotations

import difflib
import logging
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.runs.fresh_output import incompleteness
from ddpm_seg.runs.layout import uris_under
from ddpm_seg.runs.parquet import DamagedFileError, open_parquet, read_columns

logger = logging.getLogger(__name__)

READERS = 4  # shards read at once: a distant store's latency dominates, and a shard has tens of megabytes
SORTED_AT_ONCE = 1 << 20
BLOCK_ROWS = 256  # rows sorted at once: their masks, megabytes each in the worst case, must stay below 2 GB

SHARD_REMEDY = "restore it from a copy, or delete it so that the next run does its images again"

_SHARD = re.compile(r"/config=([^/]+)/run=(run-\d+)/shard-\d+\.parquet$")


def read_view(
    output: str,
    table: str,
    *,
    config_hash: str | None = None,
    columns: Sequence[str] | None = None,
    image_ids: Sequence[str] | None = None,
) -> pa.Table:
    """The rows of `table` under `output`, one per `image_id` (the latest run's), sorted by URI.

    All rows belong to one configuration: `config_hash`, by default that of the newest run; a warning then names any
    others. `columns` limits what is read; `image_ids` limits it to the shards that contain them. Peak memory: the size
    of the result, twice that if rows of several runs must be merged. Raises FileNotFoundError if nothing was published,
    ValueError for an unknown column, and DamagedFileError (a ValueError) for a file that cannot be read.
    """
    shards = view_shards(output, table, config_hash)
    wanted = None if image_ids is None else pa.array(image_ids, pa.string())
    latest = _latest(_read_ahead(shards, ["image_id"]), wanted)
    held = [number for number, kept in enumerate(latest) if kept.any()] or [0]
    shards, latest = [shards[number] for number in held], [latest[number] for number in held]
    chosen = [pa.array(kept) for kept in latest]
    uris = [rows.filter(kept)["uri"] for rows, kept in zip(_read_ahead(shards, ["uri"]), chosen, strict=True)]
    if columns is not None:  # after the columns that every shard must have
        _check_columns(table, shards[-1], columns)
    parts = [rows.filter(kept) for rows, kept in zip(_read_ahead(shards, columns), chosen, strict=True)]
    names = pa.chunked_array([chunk for part in uris for chunk in part.chunks], pa.string())
    return _in_order(parts, pc.sort_indices(names).to_numpy().astype(np.int64))


def read_labels(
    output: str,
    *,
    config_hash: str | None = None,
    columns: Sequence[str] | None = None,
    image_ids: Sequence[str] | None = None,
) -> pa.Table:
    """The current labels under `output`: for each image, the row of the latest run that labelled it.

    Images that could not be read have a row with `status` "error". If several models or settings have labelled into
    the output, the rows are those of `config_hash` (HASH of a folder `config=HASH` under `labels/`), by default those
    of the newest run; a warning then names the configurations. `columns=["uri", "classes"]` avoids reading the masks.
    `image_ids` returns only those images, and reads only the shards that contain them. Raises FileNotFoundError if
    there are no labels, and ValueError for an unknown column or a file that cannot be read.
    """
    return read_view(output, "labels", config_hash=config_hash, columns=columns, image_ids=image_ids)


def current_rows(output: str, table: str, *, config_hash: str | None = None) -> list[tuple[str, NDArray[np.bool_]]]:
    """Like `read_view`, for reading one shard at a time: (shard URI, bool per row: is it current?), oldest run first.

    A row is current if no later row has the same `image_id`. Raises FileNotFoundError if nothing was published.
    """
    shards = view_shards(output, table, config_hash)
    return list(zip(shards, _latest(_read_ahead(shards, ["image_id"])), strict=True))


def shards_read(
    output: str, table: str, columns: Sequence[str], *, config_hash: str | None = None
) -> Iterator[tuple[str, pa.Table]]:
    """(URI, these columns) of each published shard, oldest run first; few of them are in memory at once.

    Raises FileNotFoundError if nothing was published.
    """
    shards = view_shards(output, table, config_hash)
    yield from zip(shards, _read_ahead(shards, columns), strict=True)


def current_errors(output: str, table: str, config_hash: str) -> dict[str, str]:
    """The `image_id` of every image whose latest row is an error, with its URI. Holds only those in memory."""
    found: dict[str, str] = {}
    columns = ["image_id", "uri", "status"]
    with suppress(FileNotFoundError):  # nothing was published yet
        for _, rows in shards_read(output, table, columns, config_hash=config_hash):
            if found:
                again = rows["image_id"].filter(pc.is_in(rows["image_id"], value_set=pa.array(list(found))))
                for name in again.to_pylist():
                    found.pop(str(name), None)
            for row in rows.filter(pc.equal(rows["status"], "error")).to_pylist():
                found[row["image_id"]] = row["uri"]
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """One of the configurations in an output, with its shards."""

    config_hash: str
    others: tuple[str, ...]
    """Hashes of the output's other configurations, that of the newest run first."""
    shards: list[str]
    """URIs, sorted by run and shard number."""

    def __str__(self) -> str:
        if not self.others:
            return f"{self.config_hash}, the only one"
        return f"{self.config_hash}, one of {1 + len(self.others)}; the others: {', '.join(self.others)}"


def configurations(output: str, table: str) -> list[Configuration]:
    """All configurations with a published shard, that of the newest run first.

    Raises FileNotFoundError for none, and ValueError for an output whose compaction is incomplete.
    """
    why_not = incompleteness(storage.place(output))  # before the listing, which would else miss what comes after it
    found: dict[str, list[tuple[int, str, str]]] = {}
    for uri in uris_under(storage.join(storage.place(output), table)):
        if match := _SHARD.search(uri):
            found.setdefault(match[1], []).append((int(match[2].removeprefix("run-")), match[2], uri))
    if not found:
        raise FileNotFoundError(f"no {table} table under {output}")
    if why_not:
        raise ValueError(why_not)
    names = sorted(found, key=lambda name: max(found[name]), reverse=True)
    return [
        Configuration(
            config_hash=name,
            others=tuple(other for other in names if other != name),
            shards=[uri for _, _, uri in sorted(found[name])],
        )
        for name in names
    ]


def choose(output: str, table: str, config_hash: str | None) -> Configuration:
    """The configuration `config_hash`; if None, that of the newest run, and a warning names any others.

    Raises FileNotFoundError if nothing was published, or nothing with this `config_hash`.
    """
    known = configurations(output, table)
    if config_hash is None:
        if known[0].others:
            logger.warning(
                "%s has %s of %d configurations; using %s, that of the newest run; the others: %s",
                *(output, table, len(known), known[0].config_hash, ", ".join(known[0].others)),
            )
        return known[0]
    chosen = next((one for one in known if one.config_hash == config_hash), None)
    if chosen is None:
        names = ", ".join(one.config_hash for one in known)
        raise FileNotFoundError(f"{output} has no {table} of configuration {config_hash}; it has those of {names}")
    return chosen


def view_shards(output: str, table: str, config_hash: str | None) -> list[str]:
    """URIs of the shards of one configuration (see `choose`), sorted by run and shard number."""
    return choose(output, table, config_hash).shards


def _check_columns(table: str, shard: str, columns: Sequence[str]) -> None:
    with open_parquet(shard) as file:
        known = file.schema_arrow.names
    for name in columns:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"the {table} table has no column {name!r}{meant}; it has {', '.join(known)}")


def _read(uri: str, columns: Sequence[str] | None) -> pa.Table:
    """Reads columns of one shard, or all; only their bytes are fetched."""
    try:
        if columns is not None:
            return read_columns(uri, columns)
        with open_parquet(uri) as file:
            return file.read()
    except DamagedFileError as error:
        raise DamagedFileError(uri, error.reason, SHARD_REMEDY) from error


def _read_ahead(shards: Sequence[str], columns: Sequence[str] | None) -> Iterator[pa.Table]:
    """`_read` of each shard, in order, with up to `READERS` shards read at once."""
    waiting: deque[Future[pa.Table]] = deque()
    with ThreadPoolExecutor(READERS) as readers:
        for uri in shards:
            waiting.append(readers.submit(_read, uri, columns))
            if len(waiting) == READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _latest(parts: Iterable[pa.Table], wanted: pa.Array[Any] | None = None) -> list[NDArray[np.bool_]]:
    """For each part, which rows (bool) are among the `wanted` (None: all are) and have no later row with the same
    `image_id`, in that part or a later one.

    Holds 17 bytes per row, and 8 more at its peak.
    """
    sizes, asked, held = [], [], bytearray()
    for part in parts:
        if wanted is not None:
            asked.append(pc.is_in(part["image_id"], value_set=wanted).to_numpy())
        sizes.append(part.num_rows)
        held += b"".join(blake2b(str(name).encode(), digest_size=16).digest() for name in part["image_id"].to_pylist())
    names = np.frombuffer(held, "S16")
    order = np.argsort(names, kind="stable")
    latest = np.zeros(len(names), bool)
    if len(names):
        latest[order[np.append(_changes(names, order), True)]] = True
    if asked:
        latest &= np.concatenate(asked)
    return np.split(latest, np.cumsum(sizes)[:-1])


def _changes(names: NDArray[np.bytes_], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which names differ from the next one in this order; the names are not copied all at once."""
    parts = (slice(start, start + SORTED_AT_ONCE) for start in range(0, len(order) - 1, SORTED_AT_ONCE))
    return np.concatenate([np.zeros(0, bool), *(names[order[:-1][part]] != names[order[1:][part]] for part in parts)])


def _in_order(parts: list[pa.Table], order: NDArray[np.int64]) -> pa.Table:
    """`pa.concat_tables(parts).take(order)`, but in blocks: `take` cannot put more than 2 GB of masks in one array."""
    if np.all(np.diff(order) > 0):
        return pa.concat_tables(parts)
    starts = np.cumsum([0, *(part.num_rows for part in parts)])
    blocks = []
    for rows in np.array_split(order, -(-len(order) // BLOCK_ROWS)):
        part_of = np.searchsorted(starts, rows, side="right") - 1
        by_part = np.argsort(part_of, kind="stable")
        pieces = [parts[part].take(rows[part_of == part] - starts[part]) for part in np.unique(part_of)]
        blocks.append(pa.concat_tables(pieces).take(np.argsort(by_part)))
    return pa.concat_tables(blocks)
