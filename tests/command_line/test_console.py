"""`ddpm-seg JOB` is `python -m jobs.JOB` without the checkout."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ddpm_seg
from ddpm_seg.command_line import console

COMMANDS = sorted(path.stem for path in Path(console.__file__).parents[1].glob("commands/[!_]*.py"))
RUN = "import sys; from ddpm_seg.command_line.console import main; sys.argv[0] = 'ddpm-seg'; sys.exit(main())"


def ddpm_seg_command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_every_job_is_in_one_group() -> None:
    assert sorted(console.JOBS) == COMMANDS


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_every_job_within_80_columns(arguments: tuple[str, ...]) -> None:
    done = ddpm_seg_command(*arguments)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert {name.replace("_", "-") for name in COMMANDS} <= set(words)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_version() -> None:
    assert ddpm_seg_command("--version").stdout == f"ddpm-seg {ddpm_seg.__version__}\n"


def test_a_jobs_help_names_the_console_command() -> None:
    done = ddpm_seg_command("pretrain-mae", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ddpm-seg pretrain-mae ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lable"], "there is no job 'lable'; did you mean label?"),
        (["photos/"], "there is no job 'photos/'; `ddpm-seg --help` lists them all"),
        (["label", "photos/"], "'photos/' has no flag before it; did you mean --input photos/?"),
        (["train", "photos/", "--output", "o"], "did you mean --images photos/?"),
        (["completion"], "completion needs a shell: ddpm-seg completion bash|zsh"),
        (["label", "--inptu", "photos/"], "--input"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(arguments: list[str], said: str) -> None:
    done = ddpm_seg_command(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", console.SHELLS)
def test_completion_knows_jobs_and_flags(shell: str) -> None:
    done = ddpm_seg_command("completion", shell)
    assert done.returncode == 0, done.stderr
    assert "expect-model-id" in done.stdout
    assert "noise-schedule" in done.stdout, "a flag of the most specific configuration"
    for job in COMMANDS:
        assert job.replace("_", "-") in done.stdout


COMPLETE = """
source /dev/stdin
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_tyro_ddpm_seg
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["pre"], ["pretrain", "pretrain-mae"]),
        (["label", "--mo"], ["--model"]),
        (["label", "--fit", ""], ["letterbox", "stretch"]),
        (["pretrain-mae", "--pat"], ["--patch-size"]),
    ],
)
def test_bash_completes_what_is_typed(typed: list[str], offered: list[str]) -> None:
    script = ddpm_seg_command("completion", "bash").stdout
    command = ["bash", "-c", COMPLETE, "bash", "ddpm-seg", *typed]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.split("\n")[:-1]) == offered, done.stderr


def test_it_works_in_any_folder(tmp_path: Path) -> None:
    done = ddpm_seg_command("label", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "32" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_options_of_a_job_are_its_configuration() -> None:
    for job in COMMANDS:
        module = importlib.import_module(f"ddpm_seg.commands.{job}")
        assert f"run({console._options(job).__name__}," in Path(str(module.__file__)).read_text()
