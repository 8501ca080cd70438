"""Estimates for a dry run: where the actors would run, how long the items would take, and what that costs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddpm_seg import storage
from ddpm_seg.durations import duration
from ddpm_seg.pipeline.work import JobPlan
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.parquet import DamagedFileError
from ddpm_seg.runs.summary import read_json

if TYPE_CHECKING:
    from ddpm_seg.cluster.nodes import Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Seconds that one actor needs per item, and where that number comes from."""

    seconds: float
    known_from: str


def estimate(plan: JobPlan, time_here: Callable[[], Pace | None], items: int | None = None) -> str:
    """Lines for a dry run: the cluster, the time, and with --price-per-hour the cost. `items` says how many items there
    are, for a plan with containers of unknown content.

    The pace is that of the newest run with this model and these options; if there is none, `time_here` measures it on a
    few items on this machine. The time does not include Ray's start and the report.
    """
    cluster, actors = _cluster(plan)
    lines = [f"cluster    {cluster}"]
    items = plan.run.items_left + plan.run.items_new if items is None else items
    if not items or not actors:
        return "\n".join(lines)
    pace = _earlier_pace(plan) or time_here()
    if pace is None:
        return "\n".join([*lines, "time       not known before the first run with this model and these options"])
    hours = items * pace.seconds / actors / 3600
    lines.append(
        f"time       about {duration(hours * 3600)}: {pace.seconds:.3g} s for each of {items}, {pace.known_from}"
    )
    if plan.config.price_per_hour is not None:
        lines.append(
            f"cost       about {hours * plan.config.price_per_hour:.2f} at {plan.config.price_per_hour:g} per hour"
        )
    return "\n".join(lines)


def _cluster(plan: JobPlan) -> tuple[str, int]:
    """The cluster and the actors that would run on it, as text; and their number, 0 if the job cannot start."""
    from ddpm_seg.cluster import nodes

    options = plan.config
    here = os.environ.get("RAY_ADDRESS", "local") in ("", "local")
    alive = [_this_machine()] if here else nodes.connect()
    cpus, gpus = sum(node.cpus for node in alive), sum(node.gpus for node in alive)
    place = "this machine" if here else f"{len(alive)} node{'s' * (len(alive) > 1)}"
    has = f"{place}, {cpus:g} CPUs, {f'{gpus:g} GPUs' if gpus else 'no GPU'}"
    if options.num_actors and options.wait_for_gpus:
        missing = options.num_actors - nodes.room_on_gpus(alive, options.gpus_per_actor)
        if missing > 0:
            wait = f"the job would wait up to {options.wait_for_gpus:g} minutes for GPUs for {missing} actors"
            return f"{has}; {wait}", options.num_actors
    try:
        allocation = nodes.allocate(alive, num_actors=options.num_actors, gpus_per_actor=options.gpus_per_actor)
    except ValueError as error:
        return f"{has}; the job cannot start: {error}", 0
    return f"{has}; actors: {allocation.actors}, each on {allocation.describe()}", allocation.actors


def _this_machine() -> Node:
    import torch

    from ddpm_seg.cluster.nodes import Node

    return Node(cpus=float(os.cpu_count() or 1), gpus=float(torch.cuda.device_count()))


def _earlier_pace(plan: JobPlan) -> Pace | None:
    """The pace of the newest run, from its summary.json and run.json; None if they are missing or unreadable."""
    run = plan.run
    if run.last_run is None:
        return None
    layout = RunLayout(output=run.output, table="", config_hash=run.config_hash, run_id=run.last_run)
    try:
        pace = read_json(layout.summary)["images_per_hour"]
        actors = read_json(layout.run_json)["cluster"]["actors"]
        return Pace(seconds=3600 / pace * actors, known_from=f"as in {run.last_run} with {actors} actors")
    except (FileNotFoundError, DamagedFileError, storage.StorageError, KeyError, TypeError, ZeroDivisionError):
        return None
