"""Takes images out of an output: their rows, statistics, plans and pages. Any step may be repeated after a failure."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.json_text import json_file
from ddpm_seg.runs.commit import SET_ASIDE, outcomes
from ddpm_seg.runs.fresh_output import refuse_unfinished
from ddpm_seg.runs.heartbeat import refuse_if_running
from ddpm_seg.runs.layout import RunLayout, layout_of, uris_under
from ddpm_seg.runs.ledger import MANIFEST, find_runs
from ddpm_seg.runs.manifest import encode_manifest, read_info
from ddpm_seg.runs.parquet import DamagedFileError, encode, read_columns, read_table
from ddpm_seg.runs.summary import read_json
from ddpm_seg.runs.upkeep.forgotten import forgotten_filter, forgotten_ids, is_forgotten, record_forgotten

logger = logging.getLogger(__name__)

_PAGES = re.compile(r"annotate_next\.(csv|html)|changes-[^/]+\.html")
"""Files of an output that name images; made again by the next call of the job that writes them."""

_SHARD = re.compile(r"/(?:labels|class_stats)/config=[^/]+/run=[^/]+/shard-\d+\.parquet$")


@dataclass(kw_only=True, slots=True)
class Forgotten:
    """What was taken out."""

    record: str
    """The file with the ids of the images, by which later runs leave them out."""
    images: set[str] = field(default_factory=set)
    """Ids of images that had rows."""
    rows: Counter[str] = field(default_factory=Counter)
    """Number of rows by table."""
    runs: set[str] = field(default_factory=set)


def forget(output: str, names: Collection[str], write_report: Callable[[RunLayout], object]) -> Forgotten:
    """Removes all rows of the images with these stored URIs from an output, of every run and configuration.

    Writes the record of ids first, so that no later run labels them again, even if this call fails midway; the same
    call then goes on. Files are replaced whole. Raises AlreadyRunningError if a job works on the output, ValueError if
    a run or a compaction was interrupted, FileNotFoundError if there is no output, and DamagedFileError for an
    unreadable file.
    """
    _finished_plans(output)
    done = Forgotten(record=record_forgotten(output, names))
    manifests = _finished_plans(output)  # again: a run that was planned meanwhile may not have seen the record
    ids = forgotten_ids(output)
    everything = uris_under(output)
    aside = storage.join(output, SET_ASIDE, "")
    shards = [uri for uri in everything if _SHARD.search(uri) or uri.startswith(aside)]
    for uri in shards:
        _clear_shard(uri, ids, done)
    without_forgotten = forgotten_filter(output)
    for uri in manifests:
        if _clear_manifest(uri, without_forgotten):
            done.runs.add(uri.split("/")[-2])
    for uri in everything:
        if _PAGES.fullmatch(uri.removeprefix(output).lstrip("/")):
            storage.delete(uri)
    layouts = {layout.run_id: layout for uri in shards if _SHARD.search(uri) for layout in [layout_of(uri)]}
    for run_id in sorted(done.runs & layouts.keys()):
        layout = replace(layouts[run_id], table="labels")
        _count_again(layout)
        write_report(layout)
    return done


def _finished_plans(output: str) -> list[str]:
    """URIs of all manifests. Raises what `forget` does if there are none, or there is still work on one of them."""
    refuse_unfinished(output)
    manifests = [uri for uri in uris_under(storage.join(output, "runs")) if uri.endswith(MANIFEST)]
    if not manifests:
        raise FileNotFoundError(f"no runs under {storage.redact(output)}: expected what ddpm-seg label wrote")
    for config_hash in {read_info(uri).config_hash for uri in manifests}:
        for run in find_runs(output, "labels", config_hash):
            refuse_if_running(run.layout)
            if not run.finished:
                raise ValueError(
                    f"{run.layout.run_id} under {storage.redact(output)} was interrupted: finish it with the same "
                    "ddpm-seg label command, then forget"
                )
    return manifests


def _clear_shard(uri: str, ids: Collection[str], done: Forgotten) -> None:
    """Rewrites a shard of any table without the rows of forgotten images; deletes it if no row is left."""
    keys = read_columns(uri, ["image_id", "uri"])
    gone = _forgotten_rows(keys, ids)
    if not gone.any():
        return
    if _SHARD.search(uri):
        done.rows[layout_of(uri).table] += int(gone.sum())
        done.runs.add(layout_of(uri).run_id)
    done.images |= {str(name) for name in keys["image_id"].filter(pa.array(gone)).to_pylist()}
    _replace(uri, read_table(uri).filter(pa.array(~gone)))


def _clear_manifest(uri: str, without_forgotten: Callable[[pa.Table], pa.Table]) -> bool:
    """Rewrites a finished run's plan without forgotten images; returns whether it had any."""
    items = read_table(uri)
    kept = without_forgotten(items)
    if kept.equals(items):
        return False
    storage.write_bytes(uri, encode_manifest(kept))
    return True


def _forgotten_rows(keys: pa.Table, ids: Collection[str]) -> NDArray[np.bool_]:
    uris: list[Any] = keys["uri"].to_pylist()
    return np.array([is_forgotten(uri, ids) for uri in uris], bool)


def _replace(uri: str, rows: pa.Table) -> None:
    if rows.num_rows:
        storage.write_bytes(uri, encode(rows))
    else:
        storage.delete(uri)


def _count_again(layout: RunLayout) -> None:
    """Corrects the counts in summary.json."""
    counts = Counter[str]()
    for uri in uris_under(layout.shards()):
        counts.update(outcomes(read_columns(uri, ["status", "error_type"])))
    try:
        summary: Mapping[str, Any] = read_json(layout.summary)
    except (FileNotFoundError, DamagedFileError) as error:
        logger.warning("%s; it is left as it is", error)
        return
    errors = {kind: number for kind, number in sorted(counts.items()) if kind != "ok"}
    new = {**summary, "images": counts.total(), "ok": counts["ok"], "errors": errors}
    storage.write_bytes(layout.summary, json_file(new))
