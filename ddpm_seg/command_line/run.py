"""Runs a job: sets up logging, parses arguments, does the work, and turns errors into one line and an exit status."""

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

# Disk and server errors that may have passed when the same command is run again.
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
    """Parses `argv` (None: the process's own) into `config`, calls `work` and prints the text that it returns.

    Returns the exit status. Known failures print one line to stderr; bugs raise, with a traceback. --help and wrong
    options raise SystemExit, as argparse does. `writes` names the options that hold the job's output; the first one
    that is set is checked. `rewrite` may change the arguments before they are parsed.
    """
    own_process = argv is None
    if own_process:
        signals.listen()
    try:
        log = logging.StreamHandler()
        log.setFormatter(PrintableFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logging.basicConfig(handlers=[log])  # only warnings of libraries: botocore's info tells where credentials are
        logging.getLogger("ddpm_seg").setLevel(log_level)
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
        # A normal exit waits for Ray to shut down, perhaps longer than the sender of the signal does.
        os._exit(status)
    return status


def _parsed(config: type[C], arguments: list[str], description: str) -> C:
    try:
        return parse(config, arguments, description=description)
    except BrokenPipeError:  # the reader of the help or of the error message has gone
        raise SystemExit(0 if {"-h", "--help"}.intersection(arguments) else WRONG_USE) from None


def refuse_lost_output(config: object, writes: Sequence[str] = ("output",)) -> None:
    """Raises ValueError for an output in Ray's session folder, which Ray deletes. `writes`: see `run`."""
    for name in writes:
        uri = getattr(config, name)
        if uri is None:
            continue
        if storage.is_local(uri) and _RAY_SESSION.search(os.path.realpath(uri)):
            raise ValueError(
                f"{flag(name)} {uri} is in a folder that Ray deletes: a submitted job runs in a temporary copy of its "
                "working directory. Give s3://… or an absolute path that all nodes share"
            )
        return


def _ending(error: BaseException) -> tuple[int, str] | None:
    """The exit status and the line to print; None for a bug, whose traceback should be shown."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, signals.stopped_line(signals.stopping_signal())
    if isinstance(error, AlreadyRunningError):
        return ALREADY_RUNNING, f"already running: {error}"
    if isinstance(error, TooManyErrors | TrainingDiverged):
        return TOO_MANY_ERRORS, f"stopped: {error}"
    if isinstance(error, storage.CredentialsError):  # before the work; those that expire in it are StageErrors
        return WRONG_USE, f"error: {error}"
    if isinstance(error, StageError | storage.StorageUnavailableError):
        return INTERRUPTED, f"failed: {error}; run the same command again to continue"
    if isinstance(error, OSError) and error.errno in _MAY_PASS:
        return INTERRUPTED, f"failed: {error}; fix that, then run the same command again"
    # An ImportError that Python raises has a name; ours have none, and say what to install.
    if isinstance(error, ValueError | OSError) or (isinstance(error, ImportError) and error.name is None):
        return WRONG_USE, f"error: {error}"
    return None


def _say(stream: TextIO, text: str) -> None:
    """Prints `text`. Ignores a reader that has gone (`| head`, a closed terminal): the work is done anyway."""
    with suppress(OSError):
        print(text, file=stream, flush=True)


def _flush() -> None:
    """Flushes stdout and stderr. If the reader has gone, discards the rest, or Python would complain at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
