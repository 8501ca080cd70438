"""Exit statuses of all jobs; 0 is success."""

WRONG_USE = 2
"""An option, an input, an output or a cluster cannot be used. The message says which, and what to do."""

TOO_MANY_ERRORS = 3
"""The job stopped itself, and would again: too much of its input is broken, or a training diverged."""

INTERRUPTED = 4
"""The job was stopped, or failed for a reason that may pass: run the same command again."""

ALREADY_RUNNING = 5
"""Another process does the same work."""
