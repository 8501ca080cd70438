"""Looks into a run's containers on the cluster, before the work on their images: finds each image and where it is."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any, cast

import pyarrow as pa
import ray

from ddpm_seg import storage
from ddpm_seg.cluster.failures import DEATHS, TASK_RETRIES
from ddpm_seg.cluster.nodes import Allocation
from ddpm_seg.data.inputs.container import Choice
from ddpm_seg.data.inputs.members import Found, look_into
from ddpm_seg.pipeline.log_place import log_as
from ddpm_seg.runs.contents import INDEX, Contents, Unit, units_of, units_to_look_into, write_index
from ddpm_seg.runs.ledger import KnownRun
from ddpm_seg.runs.manifest import image_id
from ddpm_seg.runs.planned import PlannedRun
from ddpm_seg.runs.upkeep.forgotten import forgotten_ids

AT_ONCE = 256  # tasks that are submitted together

logger = logging.getLogger(__name__)


def contents_of(run: KnownRun, choice: Choice, allocation: Allocation, read_uris: Mapping[str, str]) -> Contents:
    """What the run consists of. An earlier attempt may have looked into containers already; those are not read."""
    planned = run.planned()
    units = units_to_look_into(planned, units_of(run.manifest))
    if units:
        logger.info("%s: looking into %d containers", run.layout.run_id, len(units))
    waiting = iter(units)
    while batch := list(islice(waiting, AT_ONCE)):
        look_into_all(planned, batch, choice, allocation, read_uris)
    return Contents(run.manifest, planned)


def look_into_all(
    run: PlannedRun, units: list[Unit], choice: Choice, allocation: Allocation, read_uris: Mapping[str, str]
) -> None:
    """Writes the index of each of these containers."""
    task: Any = ray.remote(num_cpus=allocation.task_cpus, max_retries=TASK_RETRIES)(cast(Any, write_index_of))
    local_hosts = storage.local_hosts_allowed()
    at_work = [task.remote(run, unit, read_uris.get(unit.uri, unit.uri), choice, local_hosts) for unit in units]
    for unit, reference in zip(units, at_work, strict=True):
        try:
            ray.get(reference)
        except DEATHS:
            logger.warning("%s: %s kills the process that looks into it", run.layout.run_id, unit.uri)
            reason = "killed_worker: the process that looked into it died (out of memory or a crash in native code)"
            write_index(
                run, unit, index_rows(unit, Found(version=unit.version, members=[], fault=reason)), unit.version
            )


def write_index_of(run: PlannedRun, unit: Unit, read_uri: str, choice: Choice, local_hosts: bool) -> None:
    """Looks into one container and writes its index. Raises StorageUnavailableError if a store does not answer."""
    log_as(run.layout.run_id, unit.shard, 0)
    storage.allow_local_hosts(local_hosts)
    version = storage.FileInfo(
        uri=read_uri,
        size_bytes=unit.version.size_bytes,
        etag=unit.version.etag,
        modified=unit.version.modified,
    )
    found = look_into(version, choice)
    forgotten = forgotten_ids(run.layout.output)
    write_index(run, unit, index_rows(unit, found, forgotten), found.version)


def index_rows(unit: Unit, found: Found, forgotten: Collection[str] = ()) -> pa.Table:
    """INDEX rows for what was found, without images that are planned singly, or whose ids are `forgotten`. Names are as
    tables store them."""
    rows: list[dict[str, object]] = []
    names: set[str] = set()
    for member in found.members:
        name = member.name.encode("utf-8", "backslashreplace").decode()
        while name in names:  # two names that differ only in bytes that are not UTF-8
            name += "?"
        names.add(name)
        uri = f"{unit.uri}#{name}"
        if uri in unit.without or image_id(uri) in forgotten:
            continue
        fault = f"read_failed: {member.fault}" if member.fault else None
        rows.append({"name": name, "start": member.start, "size_bytes": member.size or None, "fault": fault})
    if found.fault:
        reason = found.fault
        if rows:
            kind, _, why = reason.partition(": ")
            reason = f"{kind}: not all images in it can be read: {why}"
        rows.append({"name": None, "fault": reason})
    return pa.Table.from_pylist(rows, schema=INDEX)
