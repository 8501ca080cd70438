"""What a job that works on Ray ends with, and the one line that it says then."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ddpm_seg.pipeline.stages import StageError, TooManyErrors
from ddpm_seg.runs.heartbeat import AlreadyRunningError
from ddpm_seg.storage import StorageUnavailableError
from jobs.arguments import ALREADY_RUNNING, INTERRUPTED, TOO_MANY_ERRORS


def exit_status(work: Callable[[], str]) -> int:
    """Does `work` and prints what it returns; or one line on stderr and the status that stands for the exception."""
    try:
        print(work())
    except AlreadyRunningError as error:
        print(f"already running: {error}", file=sys.stderr)
        return ALREADY_RUNNING
    except TooManyErrors as error:
        print(f"stopped: {error}", file=sys.stderr)
        return TOO_MANY_ERRORS
    except (StageError, StorageUnavailableError, KeyboardInterrupt) as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"failed: {error}"
        print(f"{reason}; run the same command again to go on", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
