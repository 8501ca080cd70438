"""Who works on a run now. It keeps two drivers from doing the same work, which would waste it but harm nothing."""

from __future__ import annotations

import getpass
import json
import logging
import os
import platform
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from ddpm_seg import storage
from ddpm_seg.json_text import json_file
from ddpm_seg.runs.layout import RunLayout

BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0

logger = logging.getLogger(__name__)


class AlreadyRunningError(RuntimeError):
    """Another driver works on the run; the message says who, where, and when it was last heard of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """`heartbeat.json`: `machine`, `pid` and `process_start` name one process for good, the rest is for people."""

    host: str
    holder: str
    machine: str
    pid: int
    process_start: str | None
    time: str


@contextmanager
def heartbeat(
    layout: RunLayout, *, check: Callable[[], object] = lambda: None, every: float = BEAT_SECONDS
) -> Iterator[None]:
    """Says that this process works on a run, every `every` seconds until the block ends.

    `check` raises OSError where the run is not there any more (`PlannedRun.check`): nothing is written there then.
    Raises AlreadyRunningError where another driver does: one that has beaten in the last 60 s, by the store's clock,
    and whose process is not known to be dead. A store that does not answer for a while ends nothing.
    """
    check()
    refuse_if_running(layout)
    while not storage.create_bytes(layout.heartbeat, _own_beat()):
        refuse_if_running(layout)
        storage.delete(layout.heartbeat)  # a dead driver's; of two that come now, one creates its own
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(layout, check, every, ended), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(every)  # not for ever: it may wait for the store
        with suppress(OSError):  # it would be stale in a minute, or at once on this host
            check()  # what stands there now may be another driver's, in an output begun anew
            storage.delete(layout.heartbeat)


def refuse_if_running(layout: RunLayout) -> None:
    """Raises AlreadyRunningError where another driver works on the run; returns where none does, or a dead one did."""
    try:
        beat = Beat(**json.loads(storage.read_bytes(layout.heartbeat)))
        age = _age(layout, beat)
    except FileNotFoundError:
        return
    except (
        TypeError,
        ValueError,
        RecursionError,
    ):  # another version's, or nobody's: no reason to leave the work undone
        logger.warning("%s is not understood, and left out of account", layout.heartbeat)
        return
    same_machine = beat.machine == _machine()
    own = same_machine and beat.pid == os.getpid()
    dead = same_machine and _process_start(beat.pid) != beat.process_start
    if own or dead or age >= STALE_SECONDS:
        return
    raise AlreadyRunningError(
        f"{beat.holder} on {beat.host} is working on {layout.run_id} of {layout.output}, and was last "
        f"heard of {age:.0f} s ago; wait until it is done, or stop it and run this again"
    )


def _beat(layout: RunLayout, check: Callable[[], object], every: float, ended: threading.Event) -> None:
    beating = True
    while not ended.wait(every):
        try:
            check()
            storage.write_bytes(layout.heartbeat, _own_beat())
            beating = True
        except OSError as error:
            if beating:
                logger.warning("no heartbeat for now, the work goes on: %s", error)
            beating = False


def _own_beat() -> bytes:
    beat = Beat(
        host=platform.node(),
        holder=f"{_user()} (process {os.getpid()})",
        machine=_machine(),
        pid=os.getpid(),
        process_start=_process_start(os.getpid()),
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    return json_file(asdict(beat))


def _age(layout: RunLayout, beat: Beat) -> float:
    """Seconds since the last beat: both times are the store's, for two hosts' clocks may be minutes apart."""
    probe = storage.join(layout.folder, storage.temporary_name())
    written = storage.info(layout.heartbeat).modified
    storage.write_bytes(probe, b"what time is it?\n")
    try:
        now = storage.info(probe).modified
    finally:
        storage.delete(probe)
    if written is None or now is None:  # a store that keeps no times: the clocks are all there is
        written, now = datetime.fromisoformat(beat.time), datetime.now(timezone.utc)
    return max(0.0, (now - written).total_seconds())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user often has a number and no name
        return f"user {os.getuid()}"


def _machine() -> str:
    """A running kernel and its processes' namespace: hosts, and containers on one, may share a name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux: no process can be looked up, so none is known to be dead
        return uuid.uuid4().hex


def _process_start(pid: int) -> str | None:
    """When a process began, in the kernel's ticks: pids are used again. None where none has that pid now."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = status.rpartition(")")[2].split()  # what stands before is the program's name, whatever is in it
    return None if fields[0] in ("Z", "X") else fields[19]  # a zombie works on nothing
