"""S3-specific parts of `storage.remote`, against a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ddpm_seg import storage
from ddpm_seg.storage import stores


@contextmanager
def s3_environment(**changes: str | None) -> Iterator[None]:
    """Other credentials for a while; file systems are opened afresh on both sides."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changes.items():
            patch.delenv(name) if value is None else patch.setenv(name, value)
        stores._open_filesystem.cache_clear()
        yield
    stores._open_filesystem.cache_clear()


def test_s3_keys_survive(s3: Callable[[], str]) -> None:
    root = s3()
    names = ["two words", "100%20", "a#b", "a?b", "[1]*", "ünï", "a+b", "a@b:c", "new\nline"]
    for name in names:
        assert storage.create_bytes(storage.join(root, name), name.encode())
    assert {f.uri: storage.read_bytes(f.uri).decode() for f in storage.list_files(root)} == {
        storage.join(root, name): name for name in names
    }
    with pytest.raises(storage.StorageError, match="versionId"):
        storage.write_bytes(storage.join(root, "a?versionId=1"), b"")


def test_s3_listing_turns_pages(s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = s3()
    for i in range(10):
        storage.write_bytes(storage.join(root, str(i)), b"")
    monkeypatch.setattr(stores.store_of(root), "s3_additional_kwargs", {"MaxKeys": 3})
    assert [file.uri for file in storage.list_files(root)] == [storage.join(root, str(i)) for i in range(10)]


def test_empty_folder_objects_are_no_files(s3: Callable[[], str]) -> None:
    root = s3()
    stores.store_of(root).call_s3("put_object", Bucket="data", Key=root.removeprefix("s3://data/") + "/x/")
    storage.write_bytes(storage.join(root, "x", "file"), b"")
    assert [file.uri for file in storage.list_files(root)] == [storage.join(root, "x", "file")]


def test_a_missing_bucket_is_named(s3: Callable[[], str]) -> None:
    s3()
    with pytest.raises(storage.StorageError, match=r"^s3://absent/x is not writable: the bucket does not exist$"):
        storage.check_writable("s3://absent/x")
    with pytest.raises(FileNotFoundError, match="s3://absent/x"):
        list(storage.list_files("s3://absent/x"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret-never-to-be-printed"}, "access was refused .*signature"),
        ({"AWS_ACCESS_KEY_ID": "wrong-never-to-be-printed"}, "access was refused .*does not exist"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "credentials"),
    ],
)
def test_wrong_credentials_are_told_in_one_line(
    s3: Callable[[], str], tmp_path: Path, changes: dict[str, str | None], reason: str
) -> None:
    root = s3()
    nowhere = str(tmp_path / "absent")  # so that nobody's own credentials are found instead
    files = {"AWS_SHARED_CREDENTIALS_FILE": nowhere, "AWS_CONFIG_FILE": nowhere}
    with s3_environment(**files, **changes), pytest.raises(storage.StorageError, match=reason) as caught:
        storage.check_writable(root)
    message = str(caught.value)
    assert message.startswith(f"{root} is not writable: ")
    assert "\n" not in message
    assert "never-to-be-printed" not in message
    storage.check_writable(root)
