"""Waits for GPUs: on `ray up` clusters and spot markets, machines may arrive minutes after the job starts."""

from __future__ import annotations

import logging
import time

from ray.autoscaler.sdk import request_resources

from ddpm_seg.cluster.nodes import Node, connect, room_on_gpus
from ddpm_seg.errors import StageError

POLL_SECONDS = 2.0

logger = logging.getLogger(__name__)


def wait_for_gpus(actors: int, gpus_per_actor: float, minutes: float) -> list[Node]:
    """Asks the autoscaler for GPUs, waits until the cluster's GPUs have room for `actors`, and returns its nodes.

    `gpus_per_actor` is the share of a GPU that each actor needs. Raises StageError if there is no room after `minutes`.
    """
    end = time.monotonic() + 60 * minutes
    nodes = connect()
    if room_on_gpus(nodes, gpus_per_actor) >= actors:
        return nodes
    logger.info("waiting up to %g minutes for GPUs that hold %d actors", minutes, actors)
    request_resources(bundles=[{"GPU": gpus_per_actor}] * actors)
    try:
        while (room := room_on_gpus(nodes, gpus_per_actor)) < actors:
            if time.monotonic() > end:
                raise StageError(f"after {minutes:g} minutes the cluster has GPUs for {room} of {actors} actors")
            time.sleep(POLL_SECONDS)
            nodes = connect()
    finally:
        request_resources(bundles=[])  # from here on the actors themselves keep their nodes; idle ones may be removed
    return nodes
