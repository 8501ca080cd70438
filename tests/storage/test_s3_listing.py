"""Large S3 listings, folder by folder at once, against a real server."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ddpm_seg import storage
from ddpm_seg.storage import patience, s3_listing, stores
from tests.faulty_s3 import FaultyS3, faulty_s3
from tests.seaweedfs import S3Server

PAGE = 3
NAMES = ["a", "b", "b-", "b0", "two words", "100%20", "ünï", "a+b", "_", "~"]


@pytest.fixture
def proxy(s3_endpoint: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.05)
    with faulty_s3(s3_endpoint.endpoint) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.endpoint)
        stores._open_filesystem.cache_clear()
        yield found
    stores._open_filesystem.cache_clear()


def small_pages(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores.store_of(root), "s3_additional_kwargs", {"MaxKeys": PAGE})


def written(root: str, seed: int) -> set[str]:
    """A tree of folders of any width and depth, with files beside them."""
    draw = random.Random(seed)
    uris = set()
    for _ in range(draw.randint(1, 40)):
        folders = draw.choices(NAMES, k=draw.choice([0, 0, 1, 1, 2, 4]))
        uris.add(storage.join(root, *folders, draw.choice(NAMES) + ".png"))
    for uri in uris:
        storage.write_bytes(uri, uri.encode())
    return uris


def flat(root: str, prefix: str) -> list[str]:
    """One listing after another page, as any client would."""
    found, options = [], dict[str, Any]()
    while True:
        page = stores.store_of(root).call_s3("list_objects_v2", Bucket="data", Prefix=prefix, **options)
        found += ["s3://data/" + one["Key"] for one in page.get("Contents", [])]
        if not page.get("IsTruncated"):
            return found
        options = {"ContinuationToken": page["NextContinuationToken"]}


@pytest.mark.parametrize("seed", range(8))
def test_equals_a_flat_listing(s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    root = s3()
    uris = written(root, seed)
    small_pages(root, monkeypatch)
    monkeypatch.setattr(s3_listing, "_ENOUGH", (1, 2, 5, 32)[seed % 4])
    for prefix in (root + "/", root + "/a", root + "/b", root + "/b/", root + "/absent"):
        found = list(s3_listing.s3_objects(prefix, "data", prefix.removeprefix("s3://data/")))
        assert [uri for uri, _ in found] == flat(root, prefix.removeprefix("s3://data/"))
        assert {uri for uri, _ in found} == {uri for uri in uris if uri.startswith(prefix)}
    for file in storage.list_files(root):
        assert file.size_bytes == len(file.uri.encode())
        assert file == storage.info(file.uri)


def test_folders_are_listed_at_once(s3: Callable[[], str], proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    root = s3()
    uris = [storage.join(root, "all", f"{folder}", f"{number}.png") for folder in range(8) for number in range(7)]
    for uri in uris:
        storage.write_bytes(uri, b"")
    monkeypatch.setattr(stores.store_of(root), "s3_additional_kwargs", {"MaxKeys": 8})
    proxy.seen.clear()
    proxy.most_at_once, proxy.delay_s = 0, 0.1
    assert [file.uri for file in storage.list_files(root)] == sorted(uris)
    assert proxy.most_at_once > 2
    assert len(proxy.seen) <= len(uris) / 7 + 1 + 2 + 8  # pages, then levels and folders


def test_small_folders_are_not_listed_one_by_one(
    s3: Callable[[], str], proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = s3()
    uris = [storage.join(root, f"{folder:02}", f"{number}.png") for folder in range(40) for number in range(3)]
    for uri in uris:
        storage.write_bytes(uri, b"")
    monkeypatch.setattr(stores.store_of(root), "s3_additional_kwargs", {"MaxKeys": 50})
    proxy.seen.clear()
    assert [file.uri for file in storage.list_files(root)] == sorted(uris)
    assert len(proxy.seen) <= len(uris) / 50 + 1 + 2


def test_no_file_is_missing_after_errors(
    s3: Callable[[], str], proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = s3()
    uris = {storage.join(root, f"{folder}", f"{number}.png") for folder in range(5) for number in range(4)}
    for uri in uris:
        storage.write_bytes(uri, b"")
    monkeypatch.setattr(stores.store_of(root), "s3_additional_kwargs", {"MaxKeys": 6})
    proxy.fail("503", spare=4, times=3)
    assert {file.uri for file in storage.list_files(root)} == uris
    proxy.fail("403", spare=4)
    with pytest.raises(PermissionError, match="access was refused"):
        list(storage.list_files(root))
