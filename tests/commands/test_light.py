"""A job parses its arguments before it imports anything heavy, and jobs/NAME.py only calls its command."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOBS = sorted(path.stem for path in (ROOT / "ddpm_seg" / "commands").glob("[!_]*.py"))
HEAVY = ("numpy", "PIL", "torch", "torchvision", "ray", "pyarrow", "pandas", "scipy", "pydantic", "jinja2")

# One process for all jobs: what one of them imports is a job's fault all the same.
ASK = """
import contextlib, io, json, runpy, sys

heavy, arguments, jobs, found = *map(json.loads, sys.argv[1:]), {}
for job in jobs:
    sys.argv = ["-m", *arguments]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            runpy.run_module(f"jobs.{job}", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code
    found[job] = {"status": status, "said": said.getvalue(), "heavy": [name for name in heavy if name in sys.modules]}
print(json.dumps(found))
"""


def ask(*arguments: str) -> dict[str, dict[str, object]]:
    """What `python -m jobs.NAME ARGUMENTS` says, for every job, its exit status, and what is imported by then."""
    command = [sys.executable, "-c", ASK, *map(json.dumps, (HEAVY, arguments, JOBS))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_is_the_commands_docstring_and_imports_nothing_heavy() -> None:
    for job, found in ask("--help").items():
        said, about = found["said"], importlib.import_module(f"ddpm_seg.commands.{job}").__doc__
        assert found["status"] == 0, said
        assert found["heavy"] == [], job
        assert said.startswith(f"usage: python -m jobs.{job} ")
        assert about.partition("\n")[0].partition(":")[0] in " ".join(said.split())


@pytest.mark.parametrize(
    ("arguments", "message"), [(("--no-such-flag",), "no-such-flag"), (("--config", "/not/there.yaml"), "No such file")]
)
def test_wrong_use_ends_before_anything_heavy_is_imported(arguments: tuple[str, ...], message: str) -> None:
    for job, found in ask(*arguments).items():
        assert found["status"] == 2, (job, found["said"])
        assert found["heavy"] == [], job
        assert message in str(found["said"])


def test_each_job_has_a_door_of_a_few_lines() -> None:
    doors = sorted(path.stem for path in (ROOT / "jobs").glob("[!_]*.py"))
    assert doors == JOBS
    for job in JOBS:
        door, command = importlib.import_module(f"jobs.{job}"), importlib.import_module(f"ddpm_seg.commands.{job}")
        assert door.main is command.main
        assert door.__doc__ == command.__doc__
        assert len(ast.parse((ROOT / "jobs" / f"{job}.py").read_text()).body) <= 4


def test_the_list_of_jobs_names_each_with_what_it_does() -> None:
    done = subprocess.run([sys.executable, "-m", "jobs"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = dict(line.removeprefix("python -m jobs.").split(maxsplit=1) for line in done.stdout.splitlines() if line)
    for job in JOBS:
        assert importlib.import_module(f"jobs.{job}").__doc__.startswith(lines[job])
