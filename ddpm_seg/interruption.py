"""Delays Ctrl-C and other stop signals while a training changes the state that it saves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held_back() -> Iterator[None]:
    """Delays stop signals: the handler of the first one that arrives inside the block is called after the block.

    An interrupted optimiser step would change some weights and not others. Only signals with a Python handler are
    delayed. Python calls those in the main thread only, so in other threads this does nothing.
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
