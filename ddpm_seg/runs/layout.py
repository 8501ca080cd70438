"""Where a run's files are. Names depend only on the plan, so two attempts at the same work use the same names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ddpm_seg import storage

_SHARD = re.compile(r"/run=([^/]+)/shard-(\d+)\.parquet$")
_PUBLISHED = re.compile(r"^(.*)/([^/]+)/config=([^/]+)/run=([^/]+)/shard-\d+\.parquet$")
_RUN = re.compile(r"/(?:runs/|config=[^/]+/run=)run-(\d+)/[^/]+$")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLayout:
    """The files of one run. `table` is the published table (`labels`); other tables are derived from it."""

    output: str
    table: str
    config_hash: str
    run_id: str

    @property
    def folder(self) -> str:
        return storage.join(self.output, "runs", self.run_id)

    @property
    def manifest(self) -> str:
        return storage.join(self.folder, "manifest.parquet")

    @property
    def run_json(self) -> str:
        return storage.join(self.folder, "run.json")

    @property
    def summary(self) -> str:
        return storage.join(self.folder, "summary.json")

    @property
    def report(self) -> str:
        return storage.join(self.folder, "report.html")

    @property
    def heartbeat(self) -> str:
        return storage.join(self.folder, "heartbeat.json")

    @property
    def chunks(self) -> str:
        """The folder with the chunks of all runs; each plan has a subfolder (`PlannedRun.chunks`)."""
        return storage.join(self.output, "_chunks")

    def configuration(self, table: str | None = None) -> str:
        """The folder with all runs of this configuration, for one table."""
        return storage.join(self.output, table or self.table, f"config={self.config_hash}")

    def shards(self, table: str | None = None) -> str:
        return storage.join(self.configuration(table), f"run={self.run_id}")

    def shard(self, shard: int, table: str | None = None) -> str:
        return storage.join(self.shards(table), f"shard-{shard:05d}.parquet")


def layout_of(shard: str) -> RunLayout:
    """The layout of the run that the published shard with this URI belongs to. Raises ValueError for other URIs."""
    match = _PUBLISHED.match(shard)
    if match is None:
        raise ValueError(f"{shard} is not a published shard")
    return RunLayout(output=match[1], table=match[2], config_hash=match[3], run_id=match[4])


def published_shards(layout: RunLayout, table: str | None = None) -> set[int]:
    """Numbers of the shards that exist in the published table, or in the derived one called `table`."""
    names = (_SHARD.search(uri) for uri in uris_under(layout.shards(table)))
    return {int(match[2]) for match in names if match}


def published_by_run(layout: RunLayout) -> dict[str, set[int]]:
    """The `published_shards` of every run of the configuration, by run id, from a single listing."""
    found: dict[str, set[int]] = {}
    for match in map(_SHARD.search, uris_under(layout.configuration())):
        if match:
            found.setdefault(match[1], set()).add(int(match[2]))
    return found


def run_number(uri: str) -> int | None:
    """The number of the run that a file belongs to: 12 in `runs/run-000012/` or a table's `run=run-000012/`."""
    match = _RUN.search(uri)
    return int(match[1]) if match else None


def run_id(number: int) -> str:
    return f"run-{number:06d}"


def uris_under(prefix: str) -> list[str]:
    """URIs of the files under `prefix`; an empty list if it does not exist."""
    try:
        return [file.uri for file in storage.list_files(prefix)]
    except FileNotFoundError:
        return []
