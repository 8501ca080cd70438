"""A network through torch.compile, which saves passes over memory; or without it, where it does not compile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, compiled when it is first called, which takes about half a minute, and again for another batch size.

    Where that fails (no compiler, an operator that it does not know) a warning says so and it runs as it is, for good.
    """
    fast, works = torch.compile(function), True

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal works
        if works:
            try:
                return fast(*args, **kwargs)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                logger.warning("the network runs uncompiled, for torch.compile failed: %s", error)
                works = False
        return function(*args, **kwargs)

    return call
