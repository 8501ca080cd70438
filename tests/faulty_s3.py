"""An S3 server that fails on request: a small HTTP proxy in front of a real one, which the test controls."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, get_args
from urllib.parse import urlsplit

# 500, 503, 403: such an answer, nothing done. full: 507 to a PUT; other requests are done.
# echo: 403 with the whole request in its message, as debugging proxies do. drop: the connection closed, nothing done.
# lose: done, but the connection closed before any answer. cut: done, and half of the answer.
# stall: nothing at all until `heal` or the client gives up. An error code of S3: the answer with it, nothing done.
Refusal = Literal["ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "InvalidObjectState", "RequestTimeTooSkewed"]
Fault = Literal["500", "503", "403", "full", "echo", "drop", "lose", "cut", "stall"] | Refusal
_CODES = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied", "full": "XMinioStorageFull"}
_STATUSES = {"echo": 403, "full": 507, "ExpiredToken": 400, "InvalidToken": 400}
_NOT_FORWARDED = ("transfer-encoding", "connection", "content-length", "date", "server")


@dataclass
class FaultyS3:
    """What the proxy does, and what it has seen; made by `faulty_s3`."""

    endpoint: str
    seen: list[str] = field(default_factory=list)  # "GET /bucket/key?query" of every request, in order
    headers: list[dict[str, str]] = field(default_factory=list)  # of the same requests
    delay_s: float = 0.0
    """Time added to every request, as by a distant store."""
    bears: int | None = None
    """Requests at once; those beyond are answered 503 SlowDown. None: any number."""
    refused: int = 0
    most_at_once: int = 0
    _at_once: int = 0
    _fault: Fault | None = None
    _spare: int = 0
    _times: int | None = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _healed: threading.Event = field(default_factory=threading.Event)

    def fail(self, fault: Fault, *, times: int | None = None, spare: int = 0) -> None:
        """Let `spare` requests through, then fail `times` of them (None: all, until `heal`)."""
        with self._lock:
            self._fault, self._times, self._spare = fault, times, spare
            self._healed.clear()
            self.seen.clear()
            self.headers.clear()

    def heal(self) -> None:
        with self._lock:
            self._fault = None
            self._healed.set()

    def _enter(self) -> bool:
        """Counts a request; False if it is one too many."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            too_many = self.bears is not None and self._at_once > self.bears
            self.refused += too_many
            return not too_many

    def _leave(self) -> None:
        with self._lock:
            self._at_once -= 1

    def _next(self, request: str, headers: dict[str, str]) -> Fault | None:
        with self._lock:
            self.seen.append(request)
            self.headers.append(headers)
            if self._spare > 0:
                self._spare -= 1
                return None
            if self._fault is None or self._times == 0:
                return None
            self._times = None if self._times is None else self._times - 1
            return self._fault


@contextmanager
def faulty_s3(endpoint: str) -> Iterator[FaultyS3]:
    """A proxy in front of the S3 server at `endpoint`, which does as it is told until the end."""

    class Handler(_Handler):
        server_address = (str(urlsplit(endpoint).hostname), urlsplit(endpoint).port or 80)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients that hang up are what this is for

    with Server(("127.0.0.1", 0), Handler) as server:
        Handler.proxy = FaultyS3(endpoint=f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Handler.proxy
        finally:
            Handler.proxy.heal()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer's body waits until its headers are acknowledged
    proxy: FaultyS3
    server_address: tuple[str, int]

    def handle_one_method(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.proxy._next(f"{self.command} {self.path}", dict(self.headers.items()))
        borne = self.proxy._enter()
        try:
            time.sleep(self.proxy.delay_s)
            self._do(body, fault if borne else "503")
        finally:
            self.proxy._leave()

    def _do(self, body: bytes, fault: Fault | None) -> None:
        if fault == "stall":
            self.proxy._healed.wait(60)
        if fault in ("drop", "stall"):
            self.close_connection = True
        elif fault in ("500", "503", "403", "echo", *get_args(Refusal)) or (fault == "full" and self.command == "PUT"):
            self._refuse(fault)
        else:
            self._forward(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one_method  # noqa: N815

    def _refuse(self, fault: str) -> None:
        status = _STATUSES.get(fault) or (int(fault) if fault.isdigit() else 403)
        message = f"{self.requestline} {self.headers}" if fault == "echo" else "this is a drill"
        escaped = message.replace("&", "&amp;").replace("<", "&lt;")
        code = fault if fault in get_args(Refusal) else _CODES.get(fault, "AccessDenied")
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{escaped}</Message></Error>".encode()
        self._answer(status, {"Content-Type": "application/xml"}, body, len(body))

    def _forward(self, body: bytes, fault: str | None) -> None:
        # With the client's own Host: the signature is over it.
        connection = http.client.HTTPConnection(*self.server_address, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in _NOT_FORWARDED}
        if fault == "lose" or (fault == "cut" and not content):
            self.close_connection = True
            return
        size = int(answer.getheader("Content-Length") or len(content))  # HEAD tells the size of what it does not send
        self.close_connection = fault == "cut"
        self._answer(answer.status, headers, content[: len(content) // 2] if fault == "cut" else content, size)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, size: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
