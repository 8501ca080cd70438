from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ddpm_seg import storage
from ddpm_seg.runs.fresh_output import MARK, fresh_output
from ddpm_seg.runs.layout import uris_under


def names(uri: str) -> list[str]:
    return sorted(file.removeprefix(f"{uri}/") for file in uris_under(uri))


@pytest.mark.parametrize("where", ["local", "s3"])
def test_an_interrupted_output_begins_anew(where: str, tmp_path: Path, s3: Callable[[], str]) -> None:
    uri = str(tmp_path / "out") if where == "local" else s3()
    with suppress(KeyboardInterrupt), fresh_output(uri) as output:
        storage.write_bytes(f"{output}/deep/old", b"1")
        raise KeyboardInterrupt
    assert names(uri) == [MARK, "deep/old"]
    with fresh_output(uri) as output:
        assert names(output) == [MARK]
        storage.write_bytes(f"{output}/new", b"2")
    assert names(uri) == ["new"]


def test_what_stands_there_stays(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(ValueError, match="is not empty"), fresh_output(str(tmp_path)):
        pass
    assert names(str(tmp_path)) == ["thesis.txt"]


@pytest.mark.parametrize("ends", [True, False])
def test_of_two_at_once_the_first_does_not_say_that_it_is_complete(ends: bool, tmp_path: Path) -> None:
    uri = str(tmp_path)

    def second() -> None:
        with suppress(KeyboardInterrupt), fresh_output(uri):
            if not ends:
                raise KeyboardInterrupt

    def first() -> None:
        with fresh_output(uri):
            storage.write_bytes(f"{uri}/first", b"1")
            second()

    with pytest.raises(ValueError, match=r"another process has started .* over meanwhile"):
        first()
    assert names(uri) == ([] if ends else [MARK])
