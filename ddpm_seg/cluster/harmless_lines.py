"""Hides alarming but harmless lines that Ray's C++ code prints in every run."""

from __future__ import annotations

import atexit
import io
import logging
import os
import shutil
import signal
import subprocess
import sys

HARMLESS = (
    # Ray Data passes an actor's arguments through the object store. If they are lost, we print our own message.
    r"core_worker\.cc:[0-9]+: Actor with class name: .* has constructor arguments in the object store",
)


def leave_out_harmless_lines() -> None:
    """From now on, filters everything written to file descriptor 2 through `grep`, which drops the HARMLESS lines.

    Python's own stderr, and so the progress bar and the log, still writes directly to the terminal. The filter is a
    separate process so that the last output of a native crash is not lost. Does nothing if there is no grep.
    """
    grep = shutil.which("grep")
    if grep is None or sys.stderr is None or _descriptor(sys.stderr) != 2:
        return
    terminal = os.dup(2)
    own = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setStream(own)
    sys.stderr = own
    command = [grep, "--line-buffered", "-a", "-v", "-E", "|".join(HARMLESS)]
    # In a new session: Ctrl-C, which the terminal sends to the whole group, must not end it before the job's last line.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=terminal, stderr=terminal, start_new_session=True)
    assert process.stdin is not None
    os.dup2(process.stdin.fileno(), 2)
    process.stdin.close()
    atexit.register(_give_back, terminal, process)


def _give_back(terminal: int, process: subprocess.Popen[bytes]) -> None:
    os.dup2(terminal, 2)
    try:
        process.wait(timeout=1)  # children that outlive this process may still hold the pipe
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _descriptor(stream: object) -> int | None:
    try:
        return stream.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError, io.UnsupportedOperation):
        return None
