"""Lists the jobs: `python -m jobs`."""

import importlib
import pkgutil

from ddpm_seg import commands

for job in pkgutil.iter_modules(commands.__path__):
    about, _, _ = (importlib.import_module(f"ddpm_seg.commands.{job.name}").__doc__ or "").partition("\n")
    print(f"python -m jobs.{job.name:<13} {about}")
print("\npython -m jobs.NAME --help explains the options of a job.")
