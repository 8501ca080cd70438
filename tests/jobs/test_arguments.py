"""Flags and YAML to a configuration."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from jobs.arguments import parse


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
    ],
)
def test_a_wrong_file_is_named(tmp_path, capsys, content, message) -> None:
    file = tmp_path / "job.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit) as stopped:
        _parse("--config", str(file))
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--nope"], ["--name"], ["--name", "a", "--size", "many"], ["--config"]])
def test_wrong_flags_exit_with_status_2(argv) -> None:
    with pytest.raises(SystemExit) as stopped:
        _parse(*argv)
    assert stopped.value.code == 2


def test_help_mentions_the_file(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        _parse("--help")
    assert stopped.value.code == 0
    assert "--config FILE.yaml" in capsys.readouterr().out
