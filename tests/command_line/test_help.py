"""What `ddpm-seg JOB --help` prints."""

from __future__ import annotations

import dataclasses
import re

import pytest

from ddpm_seg.command_line import console
from ddpm_seg.command_line.help_text import print_help

JOBS = sorted(console.JOBS)


@pytest.fixture(params=JOBS)
def job(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def help_of(job: str, capsys: pytest.CaptureFixture[str]) -> str:
    print_help(console._options(job), f"ddpm-seg {job}", console._command(job).__doc__ or "")
    return capsys.readouterr().out


def test_no_line_is_wider_than_the_terminal(job, capsys, monkeypatch) -> None:
    for columns in (60, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = help_of(job, capsys).splitlines()
        # Commands have no place to break but those in the source, which are made for 80 columns.
        assert max(len(line) for line in lines if columns == 80 or not line.startswith("    ")) <= columns


def test_no_line_ends_long_before_the_margin_within_a_sentence(job, capsys, monkeypatch) -> None:
    """The next word of a description would not have fitted: the line breaks of the source are gone."""
    monkeypatch.setenv("COLUMNS", "80")
    described = re.findall(r"^│ {5,}(\S.*?)( *) │\n│ {5,}(\S+)", help_of(job, capsys), re.MULTILINE)
    assert described
    for text, room, word in described:
        assert len(word) + 1 > len(room), (text, word)


def test_every_option_is_described(job, capsys) -> None:
    text = help_of(job, capsys)
    for field in dataclasses.fields(console._options(job)):
        described = re.search(rf"│ --{field.name.replace('_', '-')}\b(.*?)\((default|required)", text, re.DOTALL)
        assert described, field.name
        assert re.search(r"[a-z]{2}", re.sub(r"\{[^}]*\}|[A-Z]+|--[\w-]+", "", described[1])), field.name


@pytest.mark.parametrize("job", ["label", "generate", "train", "evaluate", "compare", "distill"])
def test_a_jobs_own_options_come_before_shared_ones(job) -> None:
    names = [field.name for field in dataclasses.fields(console._options(job))]
    shared = {"image_root", "uncovered", "expect_model_id", "price_per_hour"} & set(names)
    assert min(map(names.index, shared)) >= 3
    assert {"input", "images", "samples", "num_samples", "train"} & set(names[:3])


def test_it_names_commands_as_people_type_them(job, capsys) -> None:
    assert "jobs." not in help_of(job, capsys)
