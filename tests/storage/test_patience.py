from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator

import pytest

from ddpm_seg import storage
from ddpm_seg.storage import patience, stores
from tests.faulty_s3 import Fault, FaultyS3, faulty_s3
from tests.seaweedfs import S3Server


@pytest.fixture(scope="module")
def proxy(s3_endpoint: S3Server) -> Iterator[FaultyS3]:
    """The S3 server behind a proxy that fails on request, and storage as patient as ever, but quicker."""
    with pytest.MonkeyPatch.context() as patch, faulty_s3(s3_endpoint.endpoint) as proxy:
        patch.setattr(patience, "FIRST_WAIT_S", 0.01)
        patch.setattr(patience, "LONGEST_WAIT_S", 0.05)
        patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        stores._open_filesystem.cache_clear()
        yield proxy
    stores._open_filesystem.cache_clear()


@pytest.fixture
def faulty(proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    monkeypatch.setattr(patience, "_told", {})
    monkeypatch.setattr(patience, "_given_up", {})
    yield proxy
    proxy.heal()


def _second_half(uri: str) -> bytes:
    with storage.open_file(uri) as file:
        file.seek(-3, os.SEEK_END)
        return file.read()


OPERATIONS: dict[str, tuple[Callable[[str], object], object]] = {
    "exists": (lambda root: storage.exists(f"{root}/a"), True),
    "exists not": (lambda root: storage.exists(f"{root}/absent"), False),
    "bucket exists": (lambda root: storage.exists("s3://data"), True),
    "info": (lambda root: storage.info(f"{root}/a").size_bytes, 5),
    "list": (lambda root: [file.uri for file in storage.list_files(root)] == [f"{root}/a", f"{root}/b/c"], True),
    "list one": (lambda root: len(list(storage.list_files(f"{root}/a"))), 1),
    "glob": (lambda root: len(storage.glob(f"{root}/*/c")), 1),
    "read": (lambda root: storage.read_bytes(f"{root}/a"), b"apple"),
    "read limited": (lambda root: storage.read_bytes(f"{root}/a", max_bytes=5), b"apple"),
    "read in parts": (lambda root: _second_half(f"{root}/b/c"), b"rry"),
    "write": (lambda root: storage.write_bytes(f"{root}/new", b"1"), None),
    "create": (lambda root: storage.create_bytes(f"{root}/new", b"1"), True),
    "create over": (lambda root: storage.create_bytes(f"{root}/a", b"apple"), False),
    "delete": (lambda root: storage.delete(f"{root}/b"), None),
    "check writable": (lambda root: storage.check_writable(root), None),
}


@pytest.fixture
def hasty(faulty: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A second without an answer is too long."""
    monkeypatch.setattr(stores, "READ_TIMEOUT_S", 1)
    stores._open_filesystem.cache_clear()
    yield
    stores._open_filesystem.cache_clear()


def check(operation: str, s3: Callable[[], str], faulty: FaultyS3, fault: Fault, times: int, spare: int) -> None:
    """The operation gives what it should, and leaves what it should, with some of its requests failing."""
    root = s3()
    storage.write_bytes(f"{root}/a", b"apple")
    storage.write_bytes(f"{root}/b/c", b"cherry")
    call, expected = OPERATIONS[operation]
    faulty.fail(fault, times=times, spare=spare)
    assert call(root) == expected, operation
    faulty.heal()
    left = {file.uri.removeprefix(root): storage.read_bytes(file.uri) for file in storage.list_files(root)}
    kept = {"/a": b"apple"} if operation == "delete" else {"/a": b"apple", "/b/c": b"cherry"}
    assert left == kept | ({"/new": b"1"} if operation in ("write", "create") else {}), operation


@pytest.mark.parametrize("fault", ["500", "503", "drop", "lose", "cut"])
def test_every_operation_survives_a_while_of_faults(faulty: FaultyS3, s3: Callable[[], str], fault: Fault) -> None:
    for operation in OPERATIONS:
        for spare in (0, 1):  # it may be the second request of an operation that fails
            check(operation, s3, faulty, fault, 3, spare)


@pytest.mark.usefixtures("hasty")
def test_a_server_that_stalls_is_asked_again(faulty: FaultyS3, s3: Callable[[], str]) -> None:
    for operation in ("exists", "list", "read", "read limited", "write", "create", "delete"):
        check(operation, s3, faulty, "stall", 1, 0)


@pytest.mark.parametrize("fault", ["500", "drop"])
def test_a_fault_that_stays_ends_with_one_clear_message(
    faulty: FaultyS3, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.3)
    root = s3()
    faulty.fail(fault)
    for operation in ("exists", "info", "list", "glob", "read", "write", "create", "delete", "check writable"):
        call, _ = OPERATIONS[operation]
        with pytest.raises(storage.StorageError, match=r"^s3://data.*tried \d+ times? in \d+ s") as caught:
            call(root)
        assert "\n" not in str(caught.value)
        assert "HTTP 500" in str(caught.value) or fault != "500"


def test_what_was_given_up_is_asked_once_until_it_may_be_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_given_up", {})
    monkeypatch.setattr(patience, "PATIENCE_S", 0.3)
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
    asked: list[str] = []

    def refuse(uri: str) -> Callable[[], None]:
        def operation() -> None:
            asked.append(uri)
            raise ConnectionRefusedError

        return operation

    def tries(uri: str) -> int:
        asked.clear()
        with pytest.raises(storage.StorageUnavailableError):
            patience.patiently(uri, refuse(uri))
        return len(asked)

    assert tries("https://dead.example/1.png") > 2
    assert [tries(f"https://dead.example/{number}.png") for number in (2, 3)] == [1, 1]
    assert tries("https://other.example/1.png") > 2
    time.sleep(0.35)
    assert tries("https://dead.example/4.png") > 2


@pytest.mark.usefixtures("hasty")
def test_a_server_that_never_answers_is_given_up(
    faulty: FaultyS3, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 1.5)
    faulty.fail("stall")
    with pytest.raises(storage.StorageUnavailableError, match=r"Read timeout.*tried"):
        storage.read_bytes(f"{s3()}/x")


@pytest.mark.usefixtures("hasty")
def test_a_write_is_tried_again_however_long_the_first_try_took(
    faulty: FaultyS3, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.5)  # less than the time-out which ends the first try
    faulty.fail("stall", times=1)
    storage.write_bytes(f"{s3()}/x", b"1")
    assert len(faulty.seen) == 2


def test_waiting_is_said_once(faulty: FaultyS3, s3: Callable[[], str], caplog: pytest.LogCaptureFixture) -> None:
    root = s3()
    with caplog.at_level(logging.DEBUG, logger="ddpm_seg"):
        storage.write_bytes(f"{root}/x", b"1")
        assert not caplog.records
        for _ in range(3):
            faulty.fail("503", times=4)
            storage.write_bytes(f"{root}/x", b"1")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"{root}/x: HTTP 503 SlowDown this is a drill; trying again")


def test_what_is_wrong_as_asked_is_not_tried_again(
    faulty: FaultyS3, s3: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    root = s3()
    storage.write_bytes(f"{root}/x", b"1")
    faulty.heal()
    wrong: list[tuple[Callable[[], object], type[OSError]]] = [
        (lambda: storage.read_bytes(f"{root}/absent"), FileNotFoundError),
        (lambda: storage.read_bytes(f"{root}/absent", max_bytes=1), FileNotFoundError),
        (lambda: storage.write_bytes("s3://absent-bucket/x", b""), FileNotFoundError),
        (lambda: list(storage.list_files("s3://absent-bucket/x")), FileNotFoundError),
        (lambda: storage.write_bytes("s3://No_such Bucket!/x", b""), OSError),
    ]
    for call, kind in wrong:
        faulty.seen.clear()
        with pytest.raises(kind, match="s3://"):
            call()
        assert len(set(faulty.seen)) == len(faulty.seen)
    assert not storage.create_bytes(f"{root}/x", b"1")
    faulty.fail("403")
    for call in (
        functools.partial(storage.write_bytes, f"{root}/x", b"2"),
        functools.partial(storage.read_bytes, f"{root}/x", max_bytes=1),
    ):
        faulty.seen.clear()
        with pytest.raises(PermissionError, match=r"HTTP 403 AccessDenied this is a drill"):
            call()
        assert len(faulty.seen) == 1
    assert not [record for record in caplog.records if record.name.startswith("ddpm_seg")]


def test_a_listing_goes_on_from_the_page_that_failed(
    faulty: FaultyS3, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = s3()
    for i in range(9):
        storage.write_bytes(f"{root}/{i}", b"")
    monkeypatch.setattr(stores.store_of(root), "s3_additional_kwargs", {"MaxKeys": 3})
    faulty.fail("503", times=2, spare=2)
    assert [file.uri for file in storage.list_files(root)] == [f"{root}/{i}" for i in range(9)]
    assert len(faulty.seen) == 6  # three pages, one of them asked for three times, and the folders that there are not


@pytest.mark.parametrize(("fault", "spare"), [("lose", 3), ("503", 2)])  # all the parts made one; the second part
def test_create_in_parts_is_whole_and_knows_its_own(
    faulty: FaultyS3, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch, fault: Fault, spare: int
) -> None:
    uri, data = f"{s3()}/large", bytes(range(256)) * 22_000
    filesystem = stores.store_of(uri)
    monkeypatch.setattr(filesystem, "pipe_file", functools.partial(filesystem.pipe_file, chunksize=5 * 2**20))
    faulty.fail(fault, times=1, spare=spare)
    assert storage.create_bytes(uri, data)
    assert not storage.create_bytes(uri, data)
    assert storage.read_bytes(uri) == data


@pytest.mark.parametrize("names", [{"AWS_ENDPOINT_URL_S3"}, {"AWS_ENDPOINT_URL"}])
def test_both_names_of_the_endpoint_work(
    faulty: FaultyS3, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch, names: set[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")  # S3's own name goes first
    for name in names:
        monkeypatch.setenv(name, faulty.endpoint)
    uri = f"{s3()}/x"
    stores._open_filesystem.cache_clear()
    faulty.seen.clear()
    storage.write_bytes(uri, b"1")
    assert storage.read_bytes(uri) == b"1"
    assert faulty.seen
    stores._open_filesystem.cache_clear()
