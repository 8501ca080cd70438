"""All uses of Ray's private API, in one place: check them whenever Ray is upgraded."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from ray._private.services import canonicalize_bootstrap_address
from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)
from ray.experimental import internal_kv


def head_address(address: str) -> str:
    """The host:port behind `address`, a value of RAY_ADDRESS such as `auto`."""
    return canonicalize_bootstrap_address(address) or address


def quieten_start() -> None:
    """Silences Ray's notice that its own processes authenticate to each other with a token."""
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)


def quieten_ray_data() -> None:
    """Silences Ray Data's logging of failures; our callers log one line for each."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # logs a page for each lost chunk
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # warns that its progress bars are off


def read_count(name: str) -> int:
    """The number that any process of the cluster has stored as `name` (`keep_count`); 0 if there is none."""
    return int(internal_kv._internal_kv_get(name) or 0)


def keep_count(name: str, count: int) -> None:
    internal_kv._internal_kv_put(name, str(count))


def delete_count(name: str) -> None:
    internal_kv._internal_kv_del(name)


def limit_waiting(context: DataContext, chunks: int) -> None:
    """Makes a stage of `context` start no new work while `chunks` results wait for the next stage.

    Ray Data itself limits only memory. As chunks are small, it would read and segment dozens of them while the writing
    processes are still starting, and a kill would lose them all.
    """
    policies = [*ENABLED_BACKPRESSURE_POLICIES, partial(_FewWaiting, chunks)]
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, policies)


class _FewWaiting(BackpressurePolicy):
    def __init__(self, chunks: int, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._chunks = chunks

    def can_add_input(self, op: Any) -> bool:
        return all(
            self._topology[after].total_enqueued_input_blocks() < self._chunks for after in op.output_dependencies
        )
