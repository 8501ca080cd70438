"""What an output says now: of everything ever published, the latest row of each input."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.runs.layout import uris_under
from ddpm_seg.runs.parquet import DamagedFileError, open_parquet, read_columns

logger = logging.getLogger(__name__)

READERS = 4  # shards at once: against a distant store the wait is latency, and a shard is tens of megabytes
BLOCK_ROWS = 256  # put in order at once: their masks, of megabytes each in the worst case, must be under 2 GB

SHARD_REMEDY = "put a copy of it back, or delete it and the next run does its images again"

_SHARD = re.compile(r"/config=([^/]+)/run=(run-\d+)/shard-\d+\.parquet$")


def read_view(
    output: str,
    table: str,
    *,
    config_hash: str | None = None,
    columns: Sequence[str] | None = None,
    image_ids: Sequence[str] | None = None,
) -> pa.Table:
    """Rows of `table` under `output`, one an `image_id`: that of the latest run, sorted by URI.

    Models and options are never mixed: `config_hash` says whose rows, by default those of the newest run; where there
    are others then, a warning is logged that names them. `columns` saves reading the pictures, and `image_ids` all but
    the shards that have those images. Memory is that of the result, twice where rows of several runs are put in order.
    Raises FileNotFoundError where nothing was published, ValueError for a column that the table does not have, and
    DamagedFileError, which is a ValueError too, for a file that cannot be read.
    """
    shards, keys, latest = _shards_and_latest(output, table, config_hash)
    if columns is not None:
        _check_columns(table, shards[-1], columns)
    with ThreadPoolExecutor(READERS) as readers:
        if image_ids is not None:
            wanted = pa.array(image_ids, pa.string())
            asked = [pc.is_in(rows["image_id"], value_set=wanted).to_numpy() for rows in keys]
            latest = [kept & mine for kept, mine in zip(latest, asked, strict=True)]
            held = [number for number, kept in enumerate(latest) if kept.any()] or [0]
            shards, keys = [shards[number] for number in held], [keys[number] for number in held]
            latest = [latest[number] for number in held]
        keys = [rows.filter(pa.array(kept)) for rows, kept in zip(keys, latest, strict=True)]
        parts = list(readers.map(lambda uri, kept: _read(uri, columns).filter(pa.array(kept)), shards, latest))
    return _in_order(parts, pc.sort_indices(pa.concat_tables(keys)["uri"]).to_numpy().astype(np.int64))


def read_labels(
    output: str,
    *,
    config_hash: str | None = None,
    columns: Sequence[str] | None = None,
    image_ids: Sequence[str] | None = None,
) -> pa.Table:
    """The current labels under `output`: for each image the row of the latest run that labelled it.

    Rows of images that could not be read are there too, with `status` "error". Where several models or options have
    labelled into one output, the rows are those of `config_hash` (a folder `config=…` under `labels/`), or of the
    newest run: which one that is, and which others there are, is logged as a warning. `columns=["uri", "classes"]`
    saves reading the masks; `image_ids` takes those images only, and reads only the shards that they are in. Raises
    FileNotFoundError where there are no labels, and ValueError for an unknown column or a file that cannot be read.
    """
    return read_view(output, "labels", config_hash=config_hash, columns=columns, image_ids=image_ids)


def current_rows(output: str, table: str, *, config_hash: str | None = None) -> list[tuple[str, np.ndarray]]:
    """`read_view` for those who take a shard at a time: URIs of the shards, oldest run first, and of each the rows
    (bool, one a row) that no later row replaces. Raises FileNotFoundError where nothing was published.
    """
    shards, _, latest = _shards_and_latest(output, table, config_hash)
    return list(zip(shards, latest, strict=True))


def _shards_and_latest(
    output: str, table: str, config_hash: str | None
) -> tuple[list[str], list[pa.Table], list[np.ndarray]]:
    """URIs of the shards; of each the columns image_id and uri, and which rows are current."""
    shards = view_shards(output, table, config_hash)
    with ThreadPoolExecutor(READERS) as readers:
        keys = list(readers.map(lambda uri: _read(uri, ["image_id", "uri"]), shards))
    return shards, keys, _latest([one["image_id"] for one in keys])


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """Whose rows are read, of all that one output holds."""

    config_hash: str
    others: tuple[str, ...]
    """The other configurations, that of the newest run first."""
    shards: list[str]
    """URIs in order of run and number."""

    def __str__(self) -> str:
        if not self.others:
            return f"{self.config_hash}, the only one there"
        return f"{self.config_hash}, of {1 + len(self.others)}; also there: {', '.join(self.others)}"


def configurations(output: str, table: str) -> list[Configuration]:
    """All that have a published shard, that of the newest run first. Raises FileNotFoundError where there is none."""
    found: dict[str, list[tuple[int, str, str]]] = {}
    for uri in uris_under(storage.join(storage.place(output), table)):
        if match := _SHARD.search(uri):
            found.setdefault(match[1], []).append((int(match[2].removeprefix("run-")), match[2], uri))
    if not found:
        raise FileNotFoundError(f"no {table} table under {output}")
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
    """The configuration that was asked for, or that of the newest run; then a warning names the others, if any.

    Raises FileNotFoundError where nothing was published, or nothing of `config_hash`.
    """
    known = configurations(output, table)
    if config_hash is None:
        if known[0].others:
            logger.warning(
                "%s holds %s of %d configurations: read is %s, that of the newest run; also there: %s",
                *(output, table, len(known), known[0].config_hash, ", ".join(known[0].others)),
            )
        return known[0]
    chosen = next((one for one in known if one.config_hash == config_hash), None)
    if chosen is None:
        names = ", ".join(one.config_hash for one in known)
        raise FileNotFoundError(f"no {table} table under {output} for config {config_hash}; there are those of {names}")
    return chosen


def view_shards(output: str, table: str, config_hash: str | None) -> list[str]:
    """URIs of the shards of one configuration (`choose`), in order of run and number."""
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
    """Columns of one shard; only their bytes are fetched."""
    try:
        if columns is not None:
            return read_columns(uri, columns)
        with open_parquet(uri) as file:
            return file.read()
    except DamagedFileError as error:
        raise DamagedFileError(uri, error.reason, SHARD_REMEDY) from error


def _latest(image_ids: list[pa.ChunkedArray]) -> list[np.ndarray]:
    """Of each part's rows, whether no later row, there or in a later part, has the same id."""
    sizes = [len(part) for part in image_ids]
    rows = pa.table({"image_id": pa.chunked_array([chunk for part in image_ids for chunk in part.chunks], pa.string())})
    rows = rows.append_column("position", pa.array(np.arange(rows.num_rows)))
    latest = np.zeros(rows.num_rows, bool)
    latest[rows.group_by("image_id").aggregate([("position", "max")])["position_max"].to_numpy()] = True
    return np.split(latest, np.cumsum(sizes)[:-1])


def _in_order(parts: list[pa.Table], order: np.ndarray) -> pa.Table:
    """`pa.concat_tables(parts).take(order)`, whose masks may be more than the 2 GB that `take` can put in one array."""
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
