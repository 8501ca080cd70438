from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddpm_seg import storage


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own with 64 KiB in all."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_keeps_what_was_whole_and_nothing_else(full_disk: Path) -> None:
    old, new = f"{full_disk}/folder/old", f"{full_disk}/folder/new"
    storage.write_bytes(old, b"old")
    for write in (storage.write_bytes, storage.create_bytes):
        for uri in (old, new) if write is storage.write_bytes else (new,):
            with pytest.raises(OSError, match=f"No space left on device: '{uri}'") as caught:
                write(uri, bytes(100_000))
            assert caught.value.errno == errno.ENOSPC
            assert {path.name: path.read_bytes() for path in (full_disk / "folder").iterdir()} == {"old": b"old"}
    with pytest.raises(OSError, match="No space left"):  # to the last page
        (full_disk / "filler").write_bytes(bytes(100_000))
    with pytest.raises(storage.StorageError, match=r"more is not writable: No space left on device"):
        storage.check_writable(f"{full_disk}/more")
    (full_disk / "filler").unlink()
    storage.write_bytes(new, b"new")  # room again
    assert storage.read_bytes(new) == b"new"


LIMITED = """
import resource, sys
from pathlib import Path
from ddpm_seg import storage
folder = Path(sys.argv[1])
storage.write_bytes(f"{folder}/old", b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for write, name in [(storage.write_bytes, "old"), (storage.write_bytes, "new"), (storage.create_bytes, "new")]:
    try:
        write(f"{folder}/{name}", bytes(100_000))
    except OSError as error:
        print(error)
print(sorted((path.name, path.read_bytes()) for path in folder.iterdir()))
"""


def test_a_limit_on_what_may_be_written_leaves_no_half_file(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    errors = [f"[Errno 27] File too large: '{tmp_path}/{name}'" for name in ("old", "new", "new")]
    assert result.stdout.splitlines() == [*errors, "[('old', b'old')]"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_will_do(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    uri = str(tmp_path / "new")
    storage.check_writable(str(tmp_path))
    assert storage.create_bytes(uri, b"first")
    assert not storage.create_bytes(uri, b"second")
    assert storage.read_bytes(uri) == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
