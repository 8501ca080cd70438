from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ddpm_seg import storage
from ddpm_seg.storage import patience


@pytest.mark.parametrize(("package", "uri"), [("s3fs", "s3://b/k"), ("aiohttp", "https://h/x?sig=secret")])
def test_a_missing_client_is_named(package: str, uri: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from ddpm_seg import storage; storage.read_bytes({uri!r})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    extra = uri.partition(":")[0]
    expected = f"StorageError: {extra}:// needs a package that is not installed: pip install 'ddpm_seg[{extra}]'"
    assert result.stderr.splitlines()[-1].endswith(expected)


class Handler(BaseHTTPRequestHandler):
    """Answers as badly as servers do: no Range, and bodies larger than anyone wants."""

    sent = 0
    busy = 0
    protocol_version = "HTTP/1.0"

    def answer(self, body: bool) -> None:
        name, _, query = self.path.partition("?")
        status = {"/file": 200, "/two%20words": 200, "/endless": 200, "/closed": 403}.get(name, 404)
        if name == "/busy" and Handler.busy > 0:
            Handler.busy -= 1
            status = 503
        elif name == "/busy":
            status = 200
        if query == "signature=needed%2Fslash":
            status = 200
        self.send_response(status)
        if name == "/endless":
            self.end_headers()
            for _ in range(1000 if body else 0):
                Handler.sent += self.wfile.write(bytes(1_000_000))
            return
        data = f"content of {self.path}".encode()
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", 'W/"tag"')
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.end_headers()
        if body:
            self.wfile.write(data)

    def do_GET(self) -> None:
        self.answer(True)

    def do_HEAD(self) -> None:
        self.answer(False)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def http() -> Iterator[str]:
    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the client hangs up on the endless file

    with Quiet(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_http_is_read(http: str) -> None:
    assert storage.read_bytes(f"{http}/file") == b"content of /file"
    assert storage.read_bytes(f"{http}/file", max_bytes=16) == b"content of /file"
    assert storage.read_bytes(f"{http}/two words") == b"content of /two%20words"
    url = f"{http}/signed?signature=needed%2Fslash"  # a signature holds only for the URL as it was written
    assert storage.read_bytes(url, max_bytes=100) == b"content of /signed?signature=needed%2Fslash"
    assert storage.exists(f"{http}/file")
    assert not storage.exists(f"{http}/absent")
    expected = storage.FileInfo(
        uri=f"{http}/file", size_bytes=16, etag="tag", modified=datetime(2015, 10, 21, 7, 28, tzinfo=timezone.utc)
    )
    assert storage.info(f"{http}/file") == expected


def test_http_over_the_limit_is_not_downloaded(http: str) -> None:
    Handler.sent = 0
    with pytest.raises(storage.FileTooLargeError):
        storage.read_bytes(f"{http}/endless", max_bytes=1000)
    assert Handler.sent < 100_000_000  # what the sockets' buffers take, of a gigabyte
    with pytest.raises(storage.FileTooLargeError):
        storage.read_bytes(f"{http}/file", max_bytes=15)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As patient as ever, but in a fraction of a second."""
    for name, seconds in [("PATIENCE_S", 0.3), ("FIRST_WAIT_S", 0.01), ("LONGEST_WAIT_S", 0.05)]:
        monkeypatch.setattr(patience, name, seconds)
    monkeypatch.setattr(patience, "_told", {})


def test_a_busy_http_server_is_asked_again(
    http: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(patience, "_told", {})
    url = f"{http}/busy?signature=secret"
    for ask, expected in [
        (lambda: storage.read_bytes(url), b"content of /busy?signature=secret"),
        (lambda: storage.read_bytes(url, max_bytes=100), b"content of /busy?signature=secret"),
        (lambda: storage.info(url).size_bytes, 33),
        (lambda: storage.exists(url), True),
    ]:
        Handler.busy = 3
        assert ask() == expected
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{http}/busy: HTTP 503")
    assert "secret" not in caplog.text


@pytest.mark.usefixtures("quick")
def test_http_errors_name_the_url_without_its_query(http: str) -> None:
    for path, kind in [("absent", FileNotFoundError), ("closed", PermissionError)]:
        for limit in (None, 10):
            with pytest.raises(kind, match=f"{http}/{path}") as caught:
                storage.read_bytes(f"{http}/{path}?signature=secret", max_bytes=limit)
            assert "secret" not in str(caught.value)
            assert caught.value.__suppress_context__
            with pytest.raises(kind, match=f"{http}/{path}"):
                storage.info(f"{http}/{path}?signature=secret")
    for read in (storage.read_bytes, storage.info):
        with pytest.raises(storage.StorageError, match=r"^http://127\.0\.0\.1:1/x: Connect call failed") as refused:
            read("http://127.0.0.1:1/x?signature=secret")
        assert "secret" not in str(refused.value)
    for touch in (storage.check_writable, lambda uri: next(storage.list_files(uri)), storage.glob, storage.delete):
        with pytest.raises(storage.StorageError, match="not listed or written"):
            touch(f"{http}/folder?secret")  # type: ignore[operator]
