"""Ctrl-C and other signals that stop a training, held back while it is changing what it will save."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held_back() -> Iterator[None]:
    """Inside the block, a signal that has a Python handler waits; the handler is called when the block is left.

    An interrupted optimiser step would leave some weights changed and others not. Outside the main thread, which is
    where Python calls signal handlers, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    callables = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in callables:
        signal.signal(number, lambda *arguments: came.append(arguments))
    try:
        yield
    finally:
        for number, handler in callables.items():
            signal.signal(number, handler)
        if came:
            callables[signal.Signals(came[0][0])](*came[0])
