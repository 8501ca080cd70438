"""Heartbeats: a file says which driver works on a run, so that two do not do the same work (wasteful but harmless)."""

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
    """The content of `heartbeat.json`. `machine`, `pid` and `process_start` identify one process; the rest is for
    people."""

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
    """Records every `every` seconds that this process works on the run, until the block ends.

    `check` raises OSError if the run no longer exists (`PlannedRun.check`); then nothing is written. Raises
    AlreadyRunningError if another driver works on the run: one whose last beat is at most 60 s old by the store's clock
    and whose process is not known to be dead. If the store does not answer for a while, the work continues.
    """
    check()
    refuse_if_running(layout)
    while not storage.create_bytes(layout.heartbeat, _own_beat()):
        refuse_if_running(layout)
        storage.delete(layout.heartbeat)  # a dead driver's; if two drivers get here, only one creates its own
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(layout, check, every, ended), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(every)  # with a limit: it may be waiting for the store
        with suppress(OSError):  # if it stays, it is stale in a minute, or at once on this host
            check()  # in an output that was started over, the heartbeat may be another driver's
            storage.delete(layout.heartbeat)


def refuse_if_running(layout: RunLayout) -> None:
    """Raises AlreadyRunningError if another driver, not known to be dead, works on the run."""
    try:
        beat = Beat(**json.loads(storage.read_bytes(layout.heartbeat)))
        age = _age(layout, beat)
    except FileNotFoundError:
        return
    except (TypeError, ValueError, RecursionError):  # another release's, or damaged: no reason to stop the work
        logger.warning("%s cannot be parsed; ignoring it", layout.heartbeat)
        return
    same_machine = beat.machine == _machine()
    own = same_machine and beat.pid == os.getpid()
    dead = same_machine and _process_start(beat.pid) != beat.process_start
    if own or dead or age >= STALE_SECONDS:
        return
    raise AlreadyRunningError(
        f"{beat.holder} on {beat.host} is working on {layout.run_id} of {layout.output}; its last sign of life was "
        f"{age:.0f} s ago. Wait until it is done, or stop it and run this again"
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
                logger.warning("the heartbeat cannot be written, work continues: %s", error)
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
    """Seconds since the last beat. Both times come from the store, as two hosts' clocks may differ by minutes."""
    probe = storage.join(layout.folder, storage.temporary_name())
    written = storage.info(layout.heartbeat).modified
    storage.write_bytes(probe, b"what time is it?\n")
    try:
        now = storage.info(probe).modified
    finally:
        storage.delete(probe)
    if written is None or now is None:  # the store keeps no times: compare the hosts' clocks instead
        written, now = datetime.fromisoformat(beat.time), datetime.now(timezone.utc)
    return max(0.0, (now - written).total_seconds())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user often has only a number
        return f"user {os.getuid()}"


def _machine() -> str:
    """Identifies a booted kernel and its process namespace: hosts, and containers on a host, may share a name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux: processes cannot be looked up, so none is known to be dead
        return uuid.uuid4().hex


def _process_start(pid: int) -> str | None:
    """Start time of a process in kernel ticks, as pids are reused. None if no running process has this pid."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = status.rpartition(")")[2].split()  # before it is the program's name, which may contain anything
    return None if fields[0] in ("Z", "X") else fields[19]  # Z, X: a zombie, which does no work
