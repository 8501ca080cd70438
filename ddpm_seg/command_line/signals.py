"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP) all stop a job in the same way, within a minute.

SIGTERM comes from Kubernetes, systemd, spot instances, `timeout` and `ray job stop`. A signal raises KeyboardInterrupt
in the main thread, so that the work can save its state. Python calls signal handlers only between bytecodes, so a
thread watches the signals too: it ends the process if the work does not stop in time, or at once on a second signal.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from ddpm_seg.command_line.statuses import INTERRUPTED
from ddpm_seg.interruption import STOP_SIGNALS

LIMIT_SECONDS = 60.0
"""The longest time from the signal to the end of the process. Kubernetes kills after 30 seconds by default."""

ECHO_SECONDS = 1.0
"""A second signal within this time counts as the first: `timeout` signals the process and then its group."""


class _State:
    """State shared by the signal handler, the watching thread and the code that ends the job."""

    listening = False
    working = False
    """Whether there is work to interrupt. Before and after it, there is nothing to save."""
    status: int | None = None
    """The exit status, as soon as it is known."""
    stopped_by: signal.Signals | None = None


def listen() -> None:
    """Installs the handlers described above. Call it once, from the main thread.

    Signals that the parent process set to be ignored stay ignored: SIGINT in a shell script's background job, SIGHUP
    under nohup.
    """
    if _State.listening or threading.current_thread() is not threading.main_thread():
        return
    _State.listening = True
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), name="signals", daemon=True).start()
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def work_begins() -> None:
    """From now on, a signal raises KeyboardInterrupt instead of ending the process at once."""
    _State.working = True


def work_ended(status: int) -> None:
    """From now on, a signal is too late to change anything: the process is about to end with `status`."""
    _State.working, _State.status = False, status


def stopping_signal() -> signal.Signals | None:
    """The signal that is stopping this process, or None."""
    return _State.stopped_by


def stopped_line(number: int | None) -> str:
    """The last line that a stopped job prints."""
    reason = "interrupted" if number in (None, signal.SIGINT) else f"stopped by {signal.Signals(number).name}"
    return f"{reason}; run the same command again to continue"


def _handle(number: int, frame: FrameType | None) -> None:
    if _State.stopped_by is not None or _State.status is not None:
        return
    _State.stopped_by = signal.Signals(number)
    if not _State.working:
        _leave(number)
    raise KeyboardInterrupt


def _watch(reading: int) -> None:
    """Waits for the first signal, then for a second one or until LIMIT_SECONDS are over; then ends the process."""
    number = _next_signal(reading, None)
    came = time.monotonic()
    while (left := came + LIMIT_SECONDS - time.monotonic()) > 0:
        if _next_signal(reading, left) and time.monotonic() - came > ECHO_SECONDS:
            break
    _leave(number)


def _next_signal(reading: int, seconds: float | None) -> int:
    """Waits for one of STOP_SIGNALS and returns it; 0 if `seconds` pass or another signal comes first.

    With `seconds` None it waits without a limit, and ignores other signals.
    """
    while select.select([reading], [], [], seconds)[0]:
        number = os.read(reading, 1)[0]
        if number in STOP_SIGNALS or seconds is not None:
            return number if number in STOP_SIGNALS else 0
    return 0


def _leave(number: int) -> NoReturn:
    """Ends the process without clean-up. Writes to the file descriptor: the main thread may hold Python's locks."""
    if _State.status is None:
        with suppress(OSError):  # the terminal may be gone
            os.write(2, f"{stopped_line(number)}\n".encode())
    os._exit(INTERRUPTED if _State.status is None else _State.status)
