"""A store that asks to slow down gets fewer requests at once, every file is read, and the pace picks up afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ddpm_seg import storage
from ddpm_seg.pipeline.label.fetch_singles import READERS
from ddpm_seg.storage import patience, stores
from tests.faulty_s3 import FaultyS3, faulty_s3
from tests.seaweedfs import S3Server

FILES, BEARS = 150, 4


@pytest.fixture
def busy_store(s3_endpoint: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(patience, "LONGEST_WAIT_S", 0.2)
    with faulty_s3(s3_endpoint.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        stores._open_filesystem.cache_clear()
        patience._pace_of.cache_clear()
        yield proxy
    stores._open_filesystem.cache_clear()
    patience._pace_of.cache_clear()


def test_a_store_that_asks_to_slow_down_is_obeyed(s3: Callable[[], str], busy_store: FaultyS3) -> None:
    root = s3()
    storage.write_bytes(f"{root}/one", b"one")
    busy_store.delay_s, busy_store.bears, busy_store.most_at_once = 0.02, BEARS, 0

    def read(_: int) -> bytes:
        return storage.read_bytes(f"{root}/one", max_bytes=10)

    with ThreadPoolExecutor(READERS) as readers:
        assert set(readers.map(read, range(FILES))) == {b"one"}
        assert busy_store.most_at_once > BEARS
        first = busy_store.refused
        assert first > 0
        busy_store.most_at_once = 0
        assert set(readers.map(read, range(FILES))) == {b"one"}
        # It no longer starts with as many as there are threads: it is refused when it tries one more, again and again.
        assert busy_store.most_at_once <= 2 * BEARS + 1
        assert busy_store.refused - first < FILES / 2

        busy_store.bears, refused = None, busy_store.refused
        while busy_store.most_at_once <= 2 * BEARS:  # a busy machine itself has fewer requests under way
            assert set(readers.map(read, range(2 * FILES))) == {b"one"}
        assert busy_store.refused == refused
