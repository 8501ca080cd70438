from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import known_implementations

from ddpm_seg import storage
from ddpm_seg.storage import patience, stores


@pytest.mark.parametrize("protocol", sorted(known_implementations))
def test_every_protocol_gives_a_file_or_an_error_of_storage(
    protocol: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(b"a local file")
    for place in ("host.invalid/x.png", f"{tmp_path}/x.png", "x.png", ""):
        with pytest.raises((OSError, ValueError)):  # which `fetch` makes a row of
            storage.read_listed(f"{protocol}://{place}".replace("file://", "other://"), max_bytes=100)


def test_an_installed_store_is_read() -> None:
    fsspec.filesystem("memory").pipe_file("/stores/x.png", b"pixels")
    assert storage.read_listed("memory://stores/x.png", max_bytes=10)[0] == b"pixels"
    with pytest.raises(storage.FileTooLargeError):
        storage.read_listed("memory://stores/x.png", max_bytes=5)


@pytest.fixture
def ftp() -> Iterator[int]:
    """The port of a server that says it is busy and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"421 too many users\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_a_client_librarys_own_errors_are_errors_of_storage(ftp: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """ftplib raises what is no OSError."""
    monkeypatch.setattr(patience, "PATIENCE_S", 0)
    with pytest.raises(storage.StorageError, match="421 too many users"):
        storage.read_bytes(f"ftp://127.0.0.1:{ftp}/x.png", max_bytes=10)
    with pytest.raises(PermissionError, match="this machine"):
        storage.read_listed(f"ftp://127.0.0.1:{ftp}/x.png", max_bytes=10)


def test_whose_host_a_list_names() -> None:
    for uri in ("http://h/x", "https://h/x", "ftp://h/x", "webhdfs://h/x"):
        assert stores.names_its_host(uri)
    for uri in ("s3://b/x", "s3a://b/x", "memory://x"):
        assert not stores.names_its_host(uri)
