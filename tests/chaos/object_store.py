"""An S3 server that can stop answering for a while, or die and return with everything that it had acknowledged."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.seaweedfs import S3Server


class ChaosStore:
    """Controls the process of `tests.seaweedfs.s3_server` and those that replace it; `close` ends the last one."""

    def __init__(self, server: S3Server) -> None:
        self.endpoint, self.pid = server.endpoint, server.pid
        process = Path(f"/proc/{server.pid}")
        self._command = (process / "cmdline").read_bytes().decode().rstrip("\0").split("\0")
        self._folder = (process / "cwd").readlink()
        self._successor: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        if self._successor is not None:
            self._successor.kill()
            self._successor.wait()

    def pause(self, seconds: float) -> None:
        """Stops the server for a while: connections stay open, but nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, seconds: float) -> None:
        """Kills the server: connections break and are refused. Starts it after `seconds`; returns when it answers."""
        os.kill(self.pid, signal.SIGKILL)
        self.close()
        time.sleep(seconds)
        with (self._folder / "log.txt").open("ab") as log:
            self._successor = subprocess.Popen(
                self._command, cwd=self._folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.pid = self._successor.pid
        end = time.monotonic() + 60
        while not self._answers():
            if time.monotonic() > end:
                raise RuntimeError(f"SeaweedFS did not come back; see {self._folder}/log.txt")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.endpoint, timeout=2):
                return True
        except urllib.error.HTTPError as error:
            return error.code == 403  # the request is not signed
        except OSError:
            return False
