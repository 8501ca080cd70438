"""Ray's line about constructor arguments stays off standard error; all else arrives, however the process ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

HARMLESS = (
    "[2026-11-26 01:35:00,093 E 1 1] core_worker.cc:2465: Actor with class name: 'MapWorker(Map(Segment))' and ID: "
    "'45' has constructor arguments in the object store and max_restarts > 0."
)
SCRIPT = """
import logging, os, signal, subprocess, sys
log = logging.StreamHandler()
logging.basicConfig(handlers=[log], level=logging.INFO)
from ddpm_seg.cluster.harmless_lines import leave_out_harmless_lines
leave_out_harmless_lines()
os.write(2, (sys.argv[1] + "\\n").encode())
os.write(2, b"native words \\xff\\n")
subprocess.run([sys.executable, "-c", "import os; os.write(2, b'a child\\\\n')"])
logging.info("the log")
print("python's own", file=sys.stderr)
print("stdout")
END
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("os.write(2, b'last words\\n'); os.abort()", -6),
        ("raise ValueError('last words')", 1),
    ],
)
def test_only_the_harmless_line_is_left_out(end: str, status: int) -> None:
    command = [sys.executable, "-c", SCRIPT.replace("END", end), HARMLESS]
    done = subprocess.run(command, capture_output=True, timeout=60)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == status, said
    assert done.stdout == b"stdout\n"
    assert "constructor arguments" not in said
    for line in ("native words \ufffd", "a child", "INFO:root:the log", "python's own"):
        assert f"{line}\n" in said
    assert ("last words" in said) == ("last words" in end)


def test_pythons_standard_error_is_still_the_terminal() -> None:
    """So that a progress bar is drawn there."""
    script = """
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    from ddpm_seg.cluster.harmless_lines import leave_out_harmless_lines
    leave_out_harmless_lines()
    os._exit(0 if sys.stderr.isatty() and not os.isatty(2) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
