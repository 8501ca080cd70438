"""The one way through all jobs: logging, arguments, the work, and one line and an exit status for however it ends."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TextIO, TypeVar

from ddpm_seg import storage
from ddpm_seg.checks import flag
from ddpm_seg.command_line import signals
from ddpm_seg.command_line.arguments import parse
from ddpm_seg.command_line.statuses import ALREADY_RUNNING, INTERRUPTED, TOO_MANY_ERRORS, WRONG_USE
from ddpm_seg.errors import StageError, TooManyErrors, TrainingDiverged
from ddpm_seg.printable import PrintableFormatter, printable
from ddpm_seg.runs.heartbeat import AlreadyRunningError

C = TypeVar("C")

# Errors of a disk or a server that may be gone when the same command is run again.
_MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

# `ray job submit --working-dir` runs the job in <session>/runtime_resources/working_dir_files/_ray_pkg_<hash>.
_RAY_SESSION = re.compile(r"/(session_latest|session_[\d-]+_[\d-]+_\d+(_\d+)?|working_dir_files|_ray_pkg_\w+)(/|$)")


def run(
    config: type[C],
    work: Callable[[C], str],
    description: str | None,
    argv: list[str] | None,
    *,
    writes: Sequence[str] = ("output",),
    log_level: int = logging.INFO,
    rewrite: Callable[[list[str]], list[str]] = list,
) -> int:
    """Parses `argv` (None: the process's own) into `config`, does `work` and prints what it returns.

    Returns the exit status. Whatever goes wrong that is no bug ends in one line on stderr; --help and wrong options
    raise SystemExit, as argparse does. `writes` names the options under which the job writes: the first one that is
    given counts. `rewrite` changes the arguments before they are parsed.
    """
    own_process = argv is None
    if own_process:
        signals.listen()
    try:
        log = logging.StreamHandler()
        log.setFormatter(PrintableFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logging.basicConfig(level=log_level, handlers=[log])
        arguments = rewrite(sys.argv[1:] if argv is None else argv)
        settings = _parsed(config, arguments, description or "")
        signals.work_begins()
        refuse_lost_output(settings, writes)
        text = work(settings)
        status = 0
        signals.work_ended(status)
        _say(sys.stdout, printable(text, keep="\n"))
    except (Exception, KeyboardInterrupt) as error:
        ending = _ending(error)
        if ending is None:
            raise
        status, line = ending
        signals.work_ended(status)
        _say(sys.stderr, printable(line))
    finally:
        _flush()
    if own_process and signals.stopping_signal() is not None:
        os._exit(status)  # a normal exit waits for Ray to shut down, which may take longer than whoever sent the signal
    return status


def _parsed(config: type[C], arguments: list[str], description: str) -> C:
    try:
        return parse(config, arguments, description=description)
    except BrokenPipeError:  # nobody reads the help, or what is wrong with the options
        raise SystemExit(0 if {"-h", "--help"}.intersection(arguments) else WRONG_USE) from None


def refuse_lost_output(config: object, writes: Sequence[str] = ("output",)) -> None:
    """Raises ValueError for an output in Ray's own folder, which Ray deletes; `writes` as for `run`."""
    for name in writes:
        uri = getattr(config, name)
        if uri is None:
            continue
        if storage.is_local(uri) and _RAY_SESSION.search(os.path.realpath(uri)):
            raise ValueError(
                f"{flag(name)} {uri} is in a folder of Ray's session, which Ray deletes: a submitted job runs in a "
                "copy of its working directory. Give s3://… or an absolute path that all nodes share"
            )
        return


def _ending(error: BaseException) -> tuple[int, str] | None:
    """Exit status and last line; None for a bug, whose traceback should be seen."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, signals.stopped_line(signals.stopping_signal())
    if isinstance(error, AlreadyRunningError):
        return ALREADY_RUNNING, f"already running: {error}"
    if isinstance(error, TooManyErrors | TrainingDiverged):
        return TOO_MANY_ERRORS, f"stopped: {error}"
    if isinstance(error, StageError | storage.StorageUnavailableError):
        return INTERRUPTED, f"failed: {error}; run the same command again to go on"
    if isinstance(error, OSError) and error.errno in _MAY_PASS:
        return INTERRUPTED, f"failed: {error}; mend that, then run the same command again"
    # Python gives an ImportError of its own a name; ours have none, and say what to install.
    if isinstance(error, ValueError | OSError) or (isinstance(error, ImportError) and error.name is None):
        return WRONG_USE, f"error: {error}"
    return None


def _say(stream: TextIO, text: str) -> None:
    """Prints, unless nobody reads: `| head` has left, or the terminal is closed. The work is done all the same."""
    with suppress(OSError):
        print(text, file=stream, flush=True)


def _flush() -> None:
    """Writes what is buffered. Where nobody reads it, Python would complain about that at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
