"""Which members are images, in tars as WebDataset and others lay them out."""

from __future__ import annotations

import pytest

from ddpm_seg.data.inputs import tar_samples
from tests.data.inputs.test_tar import names, tar_of


@pytest.mark.parametrize(
    ("files", "key", "expected"),
    [
        (["0001.jpg", "0001.json", "0001.seg.png", "0002.txt", "0002.PNG"], None, ["0001.jpg", "0002.PNG"]),
        (["0001.json", "0001.seg.png", "0001.jpg", "0001.png"], None, ["0001.jpg"]),
        (["1.left.jpg", "1.right.jpg"], None, ["1.left.jpg", "1.right.jpg"]),
        (["1.left.jpg", "1.right.jpg", "2.jpg"], "right.jpg", ["1.right.jpg"]),
        (["1.jpg", "1.png", "2.png"], ".PNG", ["1.png", "2.png"]),
        (["a/1.jpg", "b/1.jpg", "./a/1.jpg"], None, ["a/1.jpg", "b/1.jpg", "./a/1.jpg"]),
        (["a.jpg", "b.jpg", "a.jpg", "b.jpg", "a.jpg"], None, ["a.jpg", "b.jpg", "a.jpg?2", "b.jpg?2", "a.jpg?3"]),
        (["a.jpg", "a.jpg", "a.json", "a.jpg?2"], None, ["a.jpg", "a.jpg?2"]),
        (["a.jpg?2", "a.jpg", "a.jpg"], "jpg", ["a.jpg", "a.jpg?3"]),
        (["._a.jpg", "__MACOSX/a.jpg", "./a.jpg", "x/.b.jpg"], None, ["./a.jpg"]),
        (["notes", "v1.2/notes.txt"], None, []),
    ],
)
def test_which_members_are_images(files: list[str], key: str | None, expected: list[str]) -> None:
    assert names(tar_of([(name, name.encode()) for name in files]), key) == expected


def test_a_sample_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_samples, "MOST_IN_SAMPLE", 3)
    files = [(f"a.{number}.png", b"") for number in range(8)]
    assert names(tar_of(files)) == [name for name, _ in files]
