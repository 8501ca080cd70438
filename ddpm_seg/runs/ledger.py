"""What an output already holds, known from manifests and file names; no row of a published table is read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.runs.layout import RunLayout, published_shards, run_id, run_number, uris_under
from ddpm_seg.runs.manifest import Manifest, create_manifest, read_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownRun:
    """A run that someone planned: `finished` once its report, the last thing written, is there."""

    layout: RunLayout
    manifest: Manifest
    finished: bool


def find_runs(output: str, table: str, config_hash: str) -> list[KnownRun]:
    """The runs of this configuration, oldest first."""
    uris = uris_under(storage.join(output, "runs"))
    reports = {run_number(uri) for uri in uris if uri.endswith("/report.html")}
    runs = []
    for uri in sorted(uri for uri in uris if uri.endswith("/manifest.parquet")):
        number = run_number(uri)
        if number is None:
            continue
        manifest = read_manifest(uri)
        if manifest.info.config_hash == config_hash:
            layout = RunLayout(output=output, table=table, config_hash=config_hash, run_id=run_id(number))
            runs.append(KnownRun(layout=layout, manifest=manifest, finished=number in reports))
    return runs


def planned_keys(runs: list[KnownRun]) -> set[bytes]:
    """Keys (`input_keys`) of every input that a published shard of these runs holds, or an unfinished one will."""
    keys: set[bytes] = set()
    for run in runs:
        items = run.manifest.items
        if run.finished:
            # A shard that someone deleted since is work again.
            published = published_shards(run.layout)
            items = items.filter(pa.array([shard in published for shard in items["shard"].to_pylist()], pa.bool_()))
        keys.update(input_keys(items))
    return keys


def not_done(inputs: pa.Table, done: set[bytes]) -> pa.Table:
    """The inputs that are new, or have changed since they were done."""
    if not done:
        return inputs
    return inputs.filter(pa.array([key not in done for key in input_keys(inputs)], pa.bool_()))


def input_keys(items: pa.Table) -> list[bytes]:
    """One version of one input: its id with its etag, or size and time where there is none."""
    columns = [items[name].to_pylist() for name in ("image_id", "etag", "size_bytes", "modified")]
    return [
        hashlib.blake2b(
            f"{name} {etag}".encode() if etag else f"{name} {size} {modified and modified.timestamp()}".encode(),
            digest_size=16,
        ).digest()
        for name, etag, size, modified in zip(*columns, strict=True)
    ]


def freeze_run(output: str, table: str, manifest: Manifest) -> KnownRun | None:
    """Writes the manifest under the next free number (`manifest.info.run_id` is replaced by it).

    None where another driver planned the same configuration in the meantime: look at `find_runs` again.
    """
    config_hash = manifest.info.config_hash
    numbers = [number for uri in uris_under(storage.join(output, "runs")) if (number := run_number(uri)) is not None]
    number = max(numbers, default=0) + 1
    while True:
        layout = RunLayout(output=output, table=table, config_hash=config_hash, run_id=run_id(number))
        numbered = replace(manifest, info=replace(manifest.info, run_id=layout.run_id))
        if create_manifest(layout, numbered):
            return KnownRun(layout=layout, manifest=numbered, finished=False)
        if read_manifest(layout.manifest).info.config_hash == config_hash:
            return None
        number += 1
