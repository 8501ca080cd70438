"""Folders that jobs.convert must refuse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from jobs import convert


class Harmful:
    """Prints when it is unpickled."""

    def __reduce__(self) -> Any:
        return (print, ("ran",))


def assert_refused(flag: str, tmp_path: Path, pattern: str, capsys: pytest.CaptureFixture[str], *more: str) -> None:
    """`tmp_path`/folder, given by `flag`, is refused in one line with exit status 2, and leaves no bundle."""
    capsys.readouterr()  # what the library said while it wrote the folder
    command = [flag, str(tmp_path / "folder"), "--output", str(tmp_path / "out"), *more]
    assert convert.main(command) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert re.search(pattern, said), said
    assert not (tmp_path / "out" / "bundle.json").exists()
