"""The commands: `python -m jobs.NAME --help`."""

import sys

from jobs import signals

# `python -m` imports this package before it looks for the job's module. The module then imports torch for seconds,
# during which a signal should end the job as it does later.
if sys.argv[0] == "-m":
    signals.listen()
