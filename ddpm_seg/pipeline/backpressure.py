"""How far a stage may run ahead of the next one."""

from __future__ import annotations

from functools import partial
from typing import Any

from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)


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
