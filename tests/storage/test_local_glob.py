from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ddpm_seg import storage
from ddpm_seg.storage.local_glob import matches

PATTERNS = (
    *("*", "*/*", "a/*.png", "*/a.png", "**", "**/*.png", "**/a/**/*.png", "a/**/b", "**/**/a*", "[ab]/?.png", ".*/*"),
    *("**/.a/*", "nothing/*", "*/nothing/*", "a.png/*", "**/[!a]", "link/*", "*/*/*.png", "to itself/*", "[*]/*"),
)


@pytest.mark.parametrize("seed", range(10))
def test_patterns_match_what_pathlib_matches(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    folders = [tmp_path]
    for _ in range(12):
        folders.append(rng.choice(folders) / rng.choice(["a", "b", ".a", "c d", "[x]", "*", "a.png"]))
        folders[-1].mkdir(exist_ok=True)
    for _ in range(30):
        file = rng.choice(folders) / rng.choice(["a.png", "b.png", "c.PNG", ".d.png", "ab", "\udcff.png"])
        if not file.exists():
            file.touch()
    for name, target in (("link", rng.choice(folders)), ("broken", Path("absent")), ("to itself", Path("to itself"))):
        (rng.choice(folders) / name).symlink_to(target)
    for pattern in PATTERNS:
        found = [path for path in matches(f"{tmp_path}/{pattern}") if os.path.lexists(path)]
        assert sorted(found) == sorted(tmp_path.glob(pattern)), pattern
        assert len(found) == len(set(found)), pattern


def test_part_of_a_name_cannot_stand_for_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="between two slashes"):
        storage.glob(f"{tmp_path}/**.png")


def test_folders_may_be_nested_deeper_than_pythons_stack(tmp_path: Path) -> None:
    folders = [tmp_path]
    try:
        for _ in range(1200):
            (folder := folders[-1] / "d").mkdir()
            folders.append(folder)
        assert set(matches(f"{tmp_path}/**")) == set(folders)
    finally:
        for folder in reversed(folders[1:]):  # pytest's own clearing up is recursive
            folder.rmdir()


@contextmanager
def nobody(tmp_path: Path) -> Iterator[None]:
    """For root, who may read everything: as a user who may not."""
    if os.geteuid() != 0:
        yield
        return
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own are for their owner alone
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("pattern", ["*/*.png", "**/*.png", "*/a.png", "[xy]/**/a.png", "*/s*"])
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path, pattern: str) -> None:
    for name in ("photos/x/sub/a.png", "photos/x/a.png", "photos/y/a.png"):
        storage.write_bytes(f"{tmp_path}/{name}", b"")
    (tmp_path / "photos" / "y").chmod(0)
    try:
        with nobody(tmp_path):
            list_all = [lambda: storage.glob(f"{tmp_path}/photos/{pattern}")]
            list_all.append(lambda: list(storage.list_matching_folders(f"{tmp_path}/photos/{pattern}")))
            for listing in list_all:
                with pytest.raises(PermissionError, match=f"{tmp_path}/photos/y"):
                    listing()
            assert len(storage.glob(f"{tmp_path}/photos/x*/*.png")) == 1
    finally:
        (tmp_path / "photos" / "y").chmod(0o755)
    assert len(storage.glob(f"{tmp_path}/photos/*/a.png")) == 2
