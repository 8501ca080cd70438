"""Everything of Ray's that has no public name: what has to be looked at again when Ray is upgraded."""

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
    """Leaves out Ray's notice that its own processes ask each other for a token."""
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)


def quieten_ray_data() -> None:
    """Leaves out what Ray Data would log of each failure, which its caller tells in one line."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it logs a page for each chunk that is lost
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it warns that its bars are off


def read_count(name: str) -> int:
    """The number that the cluster keeps as `name`, wherever the process is that kept it; 0 if there is none."""
    return int(internal_kv._internal_kv_get(name) or 0)


def keep_count(name: str, count: int) -> None:
    internal_kv._internal_kv_put(name, str(count))


def delete_count(name: str) -> None:
    internal_kv._internal_kv_del(name)


def limit_waiting(context: DataContext, chunks: int) -> None:
    """Under `context`, a stage begins nothing while `chunks` wait for the next one.

    Ray Data's own limit is memory alone. Chunks are small, so while the processes that write are still starting, it
    would read and segment dozens of them, and a kill would cost them all.
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
