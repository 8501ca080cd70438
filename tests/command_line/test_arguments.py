"""Parsing flags and YAML into a configuration."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ddpm_seg.command_line.arguments import parse


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings."""

    name: str
    """A name."""
    size: int = 3
    """A size."""
    share: float | None = None
    """A share."""
    sides: tuple[int, ...] = (1,)
    """Sides."""
    dry: bool = False
    """Whether."""


def _parse(*argv: str) -> Config:
    return parse(Config, list(argv), description="A job.")


def test_flags_are_dashed_fields() -> None:
    assert _parse("--name", "a", "--sides", "4", "5", "--dry") == Config(name="a", sides=(4, 5), dry=True)


@pytest.mark.parametrize("form", [["--config", "{}"], ["--config={}"]])
def test_flags_override_the_file(tmp_path, form) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("name: --from-file\nsize: 7\nsides: [8, 9]\ndry: true\nshare: null\n")
    argv = [part.format(file) for part in form]
    assert _parse(*argv) == Config(name="--from-file", size=7, sides=(8, 9), dry=True)
    assert _parse("--size", "1", *argv, "--no-dry").size == 1
    assert not _parse(*argv, "--no-dry").dry


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sizes: 3\n", "unknown key 'sizes'"),
        ("- 1\n", "expected a mapping"),
        ("a: [\n", "while parsing"),
        (None, "No such file"),
        ("name: a\nsides: []\n", "sides is []; expected a list of values"),
        ("name: a\nsides: [1, null]\n", "sides is [1, None]"),
        ("name: a\nsize:\n", "size is empty; give a value, or leave the key out"),
        ("name:\n", "name is empty"),
        ("name: ''\n", "--name is empty"),
        ("name: a\nsize: {a: 1}\n", "size is a mapping"),
        ("name: a\n\tsize: 1\n", "line 2; indent with spaces, not tabs"),
        ("name: a\nshare: nan\n", "--share is nan, expected a finite number"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, capsys, content, message) -> None:
    file = tmp_path / "job.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit) as stopped:
        _parse("--config", str(file))
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "argv", [["--nope"], ["--name"], ["--name", "a", "--size", "many"], ["--config"], ["--name", ""]]
)
def test_wrong_flags_exit_with_status_2(argv) -> None:
    with pytest.raises(SystemExit) as stopped:
        _parse(*argv)
    assert stopped.value.code == 2


def test_help_mentions_the_file(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        _parse("--help")
    assert stopped.value.code == 0
    assert "--config FILE.yaml" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["--name", "a", "--share", "inf"], ["--name", "a", "--sides"]])
def test_values_that_no_job_can_use(argv, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        _parse(*argv)
    assert stopped.value.code == 2
    assert argv[2] in capsys.readouterr().err


def test_the_home_folder_is_found_whoever_spells_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "job.yaml").write_text("name: ~/o\n")
    assert _parse("--config", "~/job.yaml").name == str(tmp_path / "o")
    assert _parse("--name=~/o").name == str(tmp_path / "o")
    assert _parse("--name", "a~/o").name == "a~/o"


@pytest.mark.parametrize("word", ["no", "off", "007", "1e3", "2024-01-01", "0x10", "1:30"])
def test_text_of_the_file_stays_text(tmp_path, word) -> None:
    (tmp_path / "job.yaml").write_text(f"name: {word}\n")
    assert _parse("--config", str(tmp_path / "job.yaml")).name == word


def test_a_file_of_windows_is_read(tmp_path) -> None:
    (tmp_path / "job.yaml").write_bytes("name: ä\n".encode("utf-16"))
    assert _parse("--config", str(tmp_path / "job.yaml")).name == "ä"
    (tmp_path / "job.yaml").write_bytes("name: ä\n".encode("latin-1"))
    with pytest.raises(SystemExit):
        _parse("--config", str(tmp_path / "job.yaml"))
