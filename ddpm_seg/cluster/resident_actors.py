"""Work that each row needs one resident actor for, such as a network that is loaded once."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from ddpm_seg.cluster.failures import TASK_RETRIES, one_line, redact_lines
from ddpm_seg.cluster.nodes import Allocation
from ddpm_seg.errors import StageError

logger = logging.getLogger(__name__)

Row = dict[str, Any]


def map_on_actors(
    rows: list[Row],
    actor: Callable[..., Callable[[Row], Row]],
    arguments: Mapping[str, object],
    allocation: Allocation,
    *,
    what: str,
) -> Iterator[Row]:
    """What `actor(**arguments)` returns for each of `rows`, as it is done, in any order.

    A row whose worker dies is given to another. Raises StageError where the work fails, after the traceback in the log,
    where the work is called `what`.
    """
    source = ray.data.from_items(rows, override_num_blocks=len(rows))
    source.context.enable_progress_bars = False
    with warnings.catch_warnings():
        # Ray 2.60 warns that options without a named parameter will be removed, but has no parameter for retries yet.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = source.map(
            actor,  # type: ignore[arg-type]  # Ray makes the callable of it
            fn_constructor_kwargs=dict(arguments),
            compute=ActorPoolStrategy(size=min(allocation.actors, len(rows))),
            num_cpus=allocation.actor_cpus,
            num_gpus=allocation.actor_gpus or None,
            max_task_retries=TASK_RETRIES,
        )
    try:
        yield from dataset.iter_rows()
    except RayError as error:
        logger.error("%s: a worker failed\n%s", what, redact_lines(str(error)))
        raise StageError(one_line(error)) from error
