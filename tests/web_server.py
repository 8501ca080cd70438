"""A web server on this machine that can count requests, redirect, answer slowly, and echo what it was sent."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class WebServer:
    """`files` by path, as (content, ETag); `redirects` by path; `refusals`: path to the reason that a 403 gives."""

    url: str = ""
    files: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)


@contextmanager
def web_server() -> Iterator[WebServer]:
    server = WebServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            server.asked[f"{self.command} {path}"] += 1
            if path == "/drip":
                return self.drip()
            status, reason, headers, body = self.answer(path)
            self.send_response(status, reason)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def answer(self, path: str) -> tuple[int, str | None, dict[str, str], bytes]:
            if path in server.redirects:
                return 302, None, {"Location": server.redirects[path]}, b""
            if path in server.refusals:
                return 403, server.refusals[path], {}, b""
            if path in server.files:
                content, etag = server.files[path]
                return 200, None, {"ETag": f'"{etag}"'}, content
            return 404, None, {}, b""

        def drip(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            for _ in range(600):
                try:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                except OSError:
                    return
                time.sleep(0.05)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
