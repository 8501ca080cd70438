"""What Ray raises when a worker dies, how often its work is tried again, and what is said of it."""

from __future__ import annotations

from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayActorError, WorkerCrashedError

from ddpm_seg import storage

# Ray Data's default is to give work to new workers for ever, though it kills them all.
TASK_RETRIES = 2

# What Ray raises for work whose process is gone; an exception in the work itself is a RayTaskError.
DEATHS = (RayActorError, WorkerCrashedError, OutOfMemoryError, NodeDiedError, ObjectLostError)


def one_line(error: Exception) -> str:
    """The last line of Ray's message, which says what went wrong; the traceback of the worker stands before it."""
    return storage.redact_text(str(error).strip().rpartition("\n")[2])


def redact_lines(text: str) -> str:
    """A traceback for the log: the messages in it may quote a signed URL."""
    return "\n".join(line[: len(line) - len(line.lstrip())] + storage.redact_text(line) for line in text.splitlines())
