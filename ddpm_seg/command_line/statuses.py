"""Exit statuses of all jobs; 0 is success."""

WRONG_USE = 2
"""An option, input, output or cluster cannot be used. The message says which one, and what to do."""

TOO_MANY_ERRORS = 3
"""The job stopped itself and would do so again: too many input images have errors, or a training diverged."""

INTERRUPTED = 4
"""The job was stopped, or failed in a way that may pass: run the same command again."""

ALREADY_RUNNING = 5
"""Another process is doing the same work."""
