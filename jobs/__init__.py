"""The commands: `python -m jobs` lists them. Each is a door to `ddpm_seg.commands`, which holds the work."""

import sys

from ddpm_seg.command_line import signals

# `python -m` imports this package before it looks for the job's module: from here on a signal ends the job properly.
if sys.argv[0] == "-m":
    signals.listen()
