"""Rewrites many small shards as a few large ones in another place; the old ones stay unchanged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ddpm_seg.progress import track
from ddpm_seg.runs.commit import Derive
from ddpm_seg.runs.fresh_output import fresh_output
from ddpm_seg.runs.layout import RunLayout, layout_of
from ddpm_seg.runs.manifest import INPUTS, LABELLED, UNIT, Manifest, create_manifest, read_info, read_manifest
from ddpm_seg.runs.parquet import DamagedFileError, read_table
from ddpm_seg.runs.shard_writer import ShardWriter
from ddpm_seg.runs.summary import read_json, write_run_json, write_summary
from ddpm_seg.runs.upkeep.compact_config import CompactConfig
from ddpm_seg.runs.upkeep.forgotten import copy_forgotten, forgotten_ids
from ddpm_seg.runs.view import choose, configurations, current_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compacted:
    layouts: tuple[RunLayout, ...]
    """One per configuration, that of the newest run first."""
    files_before: int
    files: int
    rows_before: int
    """Rows in all old files, including those that later rows replace."""
    rows: int
    left_out: tuple[str, ...]
    """Configurations that were not compacted because `config_hash` selected another."""

    @property
    def layout(self) -> RunLayout:
        """The layout of the newest run's configuration."""
        return self.layouts[0]


def compact(
    config: CompactConfig, derived: Mapping[str, Derive], write_report: Callable[[RunLayout], object]
) -> Compacted:
    """Copies the current rows (see `view.read_labels`) of one output to another, in order of run and shard.

    It copies every configuration, the newest first, or only `config.config_hash`. Rows keep their values, including
    `run_id`. The new files are those of the configuration's newest run, with a manifest of the rows' inputs and the
    records of forgotten images, so that `jobs.label` can continue there. Raises FileNotFoundError if nothing was
    published, DamagedFileError (a ValueError) for a file that cannot be read, and ValueError for an output that is not
    empty, or if images of the source are forgotten meanwhile.
    """
    assert config.output is not None  # as it is only with `prune`
    source = config.labels
    known = configurations(source, "labels")
    if config.config_hash is not None:
        known = [choose(source, "labels", config.config_hash)]
    layouts, files_before, rows_before, files, rows = [], 0, 0, 0, 0
    with fresh_output(config.output) as output:
        copy_forgotten(source, output)
        for one in known:
            shards = current_rows(source, "labels", config_hash=one.config_hash)
            layout, writer = _write(shards, output, derived, config.shard_size)
            write_report(layout)  # which marks the run as finished
            layouts.append(layout)
            files_before, rows_before = files_before + len(shards), rows_before + sum(len(kept) for _, kept in shards)
            files, rows = files + len(writer.planned), rows + writer.counts.total()
        if forgotten_ids(source) != forgotten_ids(output):
            raise ValueError(f"images were forgotten in {source} meanwhile: run the same command again, to start over")
    return Compacted(
        layouts=tuple(layouts),
        files_before=files_before,
        files=files,
        rows_before=rows_before,
        rows=rows,
        left_out=known[0].others if config.config_hash is not None else (),
    )


def _write(
    shards: list[tuple[str, NDArray[np.bool_]]], output: str, derived: Mapping[str, Derive], shard_size: int
) -> tuple[RunLayout, ShardWriter]:
    newest, started = layout_of(shards[-1][0]), datetime.now(timezone.utc)
    layout = replace(newest, output=output)
    info, record = read_info(newest.manifest), _run_json(newest)
    write_run_json(layout, info, {**record, "compacted_from": newest.output})
    writer = ShardWriter(layout, derived, shard_size)
    containers: list[pa.Table] = []
    for rows, items in track(_rows_and_inputs(shards, containers), "compacting", unit="files", total=len(shards)):
        writer.add(rows, items)
    writer.flush()
    create_manifest(layout, Manifest(info=info, items=_with_containers(writer.planned, containers)))
    write_summary(layout, writer.summary(started))
    return layout, writer


def _run_json(layout: RunLayout) -> dict[str, object]:
    """The content of run.json; empty, with a warning, if it is missing or damaged, as only people read it."""
    try:
        return read_json(layout.run_json)
    except (FileNotFoundError, DamagedFileError) as error:
        logger.warning("%s; its details about %s are lost", error, layout.run_id)
        return {}


def _with_containers(planned: list[pa.Table], containers: list[pa.Table]) -> pa.Table:
    """The manifest's rows, with one for the last version of each container at the end, so that the next run knows what
    is done."""
    items = pa.concat_tables(planned)
    if not containers:
        return items
    units = pa.concat_tables(containers)
    places = {name: place for place, name in enumerate(units["image_id"].to_pylist())}
    units = units.take(list(places.values()))
    last = {"shard": items["shard"][-1].as_py(), "chunk": 0}
    for name, number in last.items():
        units = units.append_column(name, pa.array(np.full(units.num_rows, number, np.int32)))
    units = units.append_column(UNIT, pa.array([LABELLED] * units.num_rows))
    return pa.concat_tables([items, units], promote_options="default")


def _rows_and_inputs(
    shards: list[tuple[str, NDArray[np.bool_]]], containers: list[pa.Table]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """For each shard, the current rows and the manifest's rows for the same inputs. Adds to `containers` the manifest's
    rows of those that the images are in."""
    manifest, of_run = None, ""
    for uri, kept in shards:
        if not kept.any():
            continue
        layout = layout_of(uri)
        if manifest is None or layout.run_id != of_run:
            manifest, of_run = read_manifest(layout.manifest), layout.run_id
        rows = read_table(uri)
        shard = int(uri.rpartition("-")[2].removesuffix(".parquet"))
        items, units = _inputs_of(manifest, shard, rows)
        containers += [units] if units.num_rows else []
        if items["image_id"] != rows["image_id"]:
            raise DamagedFileError(uri, f"its rows are not those that {layout.manifest} planned")
        mask = pa.array(kept)
        yield rows.filter(mask), items.filter(mask)


def _inputs_of(manifest: Manifest, shard: int, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The inputs of a shard with these rows, and the containers that they are in."""
    items, shards = manifest.items, manifest.items["shard"].to_numpy()
    if UNIT not in items.column_names:
        return items.filter(pa.array(shards == shard)).select(INPUTS.names), items.slice(0, 0).select(INPUTS.names)
    # A container's images fill shards beyond the manifest's (see `contents.Contents`).
    step = int(str(manifest.info.config.get("shards", 1)))
    here = items.filter(pa.array(shards == (shard if (shards == shard).any() else shard % step)))
    units = here.filter(pc.is_valid(here[UNIT])).select(INPUTS.names)
    single = here.filter(pc.is_null(here[UNIT])).select(INPUTS.names)
    if single.num_rows:
        return single, units
    known = [name for name in INPUTS.names if name in rows.column_names]
    inside = rows.select(known).append_column("modified", pa.nulls(rows.num_rows, INPUTS.field("modified").type))
    return inside.select(INPUTS.names).cast(INPUTS), units
