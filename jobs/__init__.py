"""The commands; `python -m jobs` lists them. Each file only calls the module of that name in `ddpm_seg.commands`."""

import sys

from ddpm_seg.command_line import signals

# `python -m` imports this package before the job's module, so from here on a signal ends the job properly.
if sys.argv[0] == "-m":
    signals.listen()
