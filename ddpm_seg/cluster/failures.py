"""What Ray raises when a worker dies, how often its work is retried, and how its errors are shown."""

from __future__ import annotations

from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayActorError, WorkerCrashedError

from ddpm_seg import storage

# Ray Data's default is to retry forever, even work that kills every worker.
TASK_RETRIES = 2

# What Ray raises when the process that did the work has died. An exception in the work itself is a RayTaskError.
DEATHS = (RayActorError, WorkerCrashedError, OutOfMemoryError, NodeDiedError, ObjectLostError)


def one_line(error: Exception) -> str:
    """The last line of Ray's message, which says what went wrong; the lines before it are the worker's traceback."""
    return storage.redact_text(str(error).strip().rpartition("\n")[2])


def redact_lines(text: str) -> str:
    """A traceback for the log, without secrets: its messages may quote a signed URL."""
    return "\n".join(line[: len(line) - len(line.lstrip())] + storage.redact_text(line) for line in text.splitlines())
