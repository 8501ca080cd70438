"""The console command `ddpm-seg`: `ddpm-seg label` does the same as `python -m jobs.label`, from any folder.

ddpm-seg --help              # all jobs, in groups
ddpm-seg --version
ddpm-seg label --help
ddpm-seg completion bash     # a completion script, or zsh
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Callable
from typing import Any

from ddpm_seg.command_line import signals
from ddpm_seg.command_line.statuses import WRONG_USE
from ddpm_seg.version import __version__

GROUPS = {
    "Label images": ("label", "export", "changes", "compact", "forget"),
    "Make a model": ("explore", "convert", "pretrain", "pretrain_mae", "train", "evaluate"),
    "Generate labelled images": ("generate", "annotate", "curate", "distill"),
    "Compare and measure": ("compare", "probe", "corruptions", "reproduce", "benchmark", "showcase", "avatars"),
}
JOBS = tuple(job for jobs in GROUPS.values() for job in jobs)
SHELLS = ("bash", "zsh")

_WIDTH = 80


def main() -> int:
    """Runs the job that the first argument names; returns its exit status."""
    signals.listen()
    name, *arguments = sys.argv[1:] or ["--help"]
    job = name.replace("-", "_")
    if name in ("-h", "--help", "help"):
        print(overview())
    elif name in ("-V", "--version"):
        print(f"ddpm-seg {__version__}")
    elif job in JOBS:
        sys.argv = [f"ddpm-seg {name}", *arguments]
        return int(_command(job).main())
    elif name == "completion" and len(arguments) == 1 and arguments[0] in SHELLS:
        _print_completion(arguments[0])
    else:
        print(_refusal(name), file=sys.stderr)
        return WRONG_USE
    return 0


def overview() -> str:
    """The text of `ddpm-seg --help`: all jobs in groups, each with the first line of its help."""
    lines = ["usage: ddpm-seg JOB [OPTIONS]", "", "Label image datasets with diffusion models."]
    for group, jobs in GROUPS.items():
        lines += ["", f"{group}:"]
        for job in jobs:
            about = (_command(job).__doc__ or "").partition("\n")[0]
            lines += _wrapped(f"  {job.replace('_', '-'):<14}", about)
    lines += ["", "ddpm-seg JOB --help     the options of a job", "ddpm-seg --version"]
    lines += [f"ddpm-seg completion {'|'.join(SHELLS)}     a script that completes jobs and flags"]
    return "\n".join(lines)


def _wrapped(head: str, text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


def _refusal(name: str) -> str:
    import difflib

    if name == "completion":
        return f"error: completion needs a shell: ddpm-seg completion {'|'.join(SHELLS)}"
    near = difflib.get_close_matches(name, JOBS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"error: there is no job {name!r}; {hint}`ddpm-seg --help` lists them all"


def _command(job: str) -> Any:
    return importlib.import_module(f"ddpm_seg.commands.{job}")


def _print_completion(shell: str) -> None:
    import tyro

    from ddpm_seg.command_line.help_text import described

    options: dict[str, Callable[..., object]] = {job.replace("_", "-"): described(_options(job)) for job in JOBS}
    script = io.StringIO()
    with contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(options, prog="ddpm-seg", args=["--tyro-print-completion", shell])
    # tyro offers None for an option that may be left out, which nobody types.
    print(script.getvalue().replace("'None', ", "").replace(", 'None'", ""), end="")


def _options(job: str) -> type:
    """The dataclass of a job's options, found by name in its module; if that has a base and its child, the child."""
    *_, config = (value for name, value in vars(_command(job)).items() if name.endswith("Config"))
    return config
