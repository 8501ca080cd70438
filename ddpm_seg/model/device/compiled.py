"""Runs a network through torch.compile, which saves passes over memory, or without it if compiling fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, compiled at its first call, which takes about half a minute, and again for another batch size.

    If compiling fails (no compiler, an unknown operator), logs a warning and runs `function` uncompiled from then on.
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
                logger.warning("the network runs uncompiled, because torch.compile failed: %s", error)
                works = False
        return function(*args, **kwargs)

    return call
