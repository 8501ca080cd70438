"""Compares the tables of a disturbed job with those of an undisturbed one."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.schema import class_stats_table
from ddpm_seg.runs.parquet import decode
from tests.chaos.subject import Subject

Rows = dict[tuple[str, str], dict[str, Any]]
"""Rows by config_hash and image_id.

Left out are `created_at`, the run's start, which may differ, and `run_id`, which is compared with the shard's path.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Numbers of images lost, doubled, different, and labelled with another model's id; and a list of other
    problems."""

    lost: int
    doubled: int
    differing: int
    wrong_model: int
    problems: tuple[str, ...]


def read_rows(output: str, table: str) -> Rows:
    """The rows of a table in which every image appears once."""
    return {_key(row): row for shard in _shards(output, table).values() for row in _plain(shard)}


def digest(rows: Rows) -> str:
    """A digest, 16 hex digits, of all `rows` with their pictures and masks."""
    return hashlib.sha256(repr([rows[key] for key in sorted(rows)]).encode()).hexdigest()[:16]


def count_ok(rows: Rows) -> int:
    return sum(row["status"] == "ok" for row in rows.values())


def masks_of(rows: Rows) -> dict[str, bytes]:
    """The mask (PNG bytes) of each row that has one, by image_id."""
    return {row["image_id"]: row["mask"]["bytes"] for row in rows.values() if row["mask"]}


def compare(
    reference: Rows,
    output: str,
    subject: Subject,
    *,
    runs: int = 1,
    deleted: str = "",
    other_masks: Sequence[Mapping[str, bytes]] = (),
) -> Verdict:
    """Compares every row of the job's table, its derived tables, and all other files under `output` after `runs` runs.

    Rows of a run whose plan was `deleted` are earlier versions, which `read_labels` leaves out. `other_masks` are masks
    of other models, by image_id: a row that has one of them has a wrong model_id.
    """
    shards, class_stats = (
        {name: shard for name, shard in _shards(output, table).items() if f"/run={deleted}/" not in name}
        for table in (subject.table, subject.derived)
    )
    rows = [row for table in shards.values() for row in _plain(table)]
    counts = Counter(map(_key, rows))
    problems = []
    if unknown := counts.keys() - reference.keys():
        problems.append(f"{len(unknown)} images that were never in the input, or of another configuration")
    if {name: class_stats_table(table) for name, table in shards.items()} != class_stats:
        problems.append(f"{subject.derived} is not what derives from {subject.table}")
    problems += [
        f"{name} has rows of {sorted(others)}"
        for name, table in shards.items()
        if (others := set(table["run_id"].to_pylist()) - {name.split("/")[1].removeprefix("run=")})
    ]
    problems += [f"left behind: {name}" for name in _left_behind(output)]
    problems += _account(output, reference, runs)
    return Verdict(
        lost=len(reference.keys() - counts.keys()),
        doubled=sum(count > 1 for count in counts.values()),
        differing=sum(row != reference.get(_key(row)) for row in rows),
        wrong_model=sum(_is_of_another_model(row, reference.get(_key(row)), other_masks) for row in rows),
        problems=tuple(problems),
    )


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["config_hash"], row["image_id"]


def _is_of_another_model(
    row: dict[str, Any], expected: dict[str, Any] | None, other_masks: Sequence[Mapping[str, bytes]]
) -> bool:
    if expected is None or row["model_id"] != expected["model_id"]:
        return True
    if row == expected or not row["mask"]:
        return False
    return any(masks.get(row["image_id"]) == row["mask"]["bytes"] for masks in other_masks)


def read_manifests(output: str) -> list[pa.Table]:
    """The plan of each run under `output`, oldest first, with columns uri, shard, chunk and others."""
    names = [file.uri for file in storage.list_files(storage.join(output, "runs"))]
    return [decode(storage.read_bytes(name)) for name in names if name.endswith("/manifest.parquet")]


def _account(output: str, reference: Rows, runs: int) -> list[str]:
    """Problems in the runs' own files. Run numbers may have gaps, left by deleted runs."""
    names = {file.uri.removeprefix(f"{output}/runs/") for file in storage.list_files(f"{output}/runs")}
    ids = sorted({name.partition("/")[0] for name in names})
    if len(ids) != runs:
        return [f"runs/ has {ids}, where {runs} are expected"]
    files = ("manifest.parquet", "run.json", "summary.json", "report.html")
    expected = {f"{run_id}/{name}" for run_id in ids for name in files}
    if names != expected:
        return [f"runs/: {sorted(expected - names)} are missing, {sorted(names - expected)} too many"]
    summaries = [json.loads(storage.read_bytes(f"{output}/runs/{run_id}/summary.json")) for run_id in ids]
    images, ok = (sum(summary[name] for summary in summaries) for name in ("images", "ok"))
    if (images, ok) != (len(reference), count_ok(reference)):
        found = f"{images} images, {ok} ok"
        return [f"summary.json has {found}; there are {len(reference)}, {count_ok(reference)} ok"]
    return []


def _shards(output: str, table: str) -> dict[str, pa.Table]:
    """The table files by name (config=…/run=…/shard-….parquet)."""
    prefix = storage.join(output, table)
    return {
        file.uri.removeprefix(prefix + "/"): decode(storage.read_bytes(file.uri)) for file in storage.list_files(prefix)
    }


def _plain(table: pa.Table) -> list[dict[str, Any]]:
    return table.drop_columns(["created_at", "run_id"]).to_pylist()


def _left_behind(output: str) -> list[str]:
    """Left-over chunks and temporary files; `storage` would not list the latter."""
    if storage.is_local(output):
        names = [str(Path(folder) / name) for folder, _, files in os.walk(output) for name in files]
    else:
        names = [f"s3://{name}" for name in fsspec.filesystem("s3", skip_instance_cache=True).find(output)]
    names = sorted(name.removeprefix(output) for name in names)
    return [name for name in names if name.startswith("/_chunks/") or name.endswith(".tmp")]
