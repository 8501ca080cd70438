"""Storage that is full for a while: a small disk, or an S3 server that answers as a full one does."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.faulty_s3 import FaultyS3

DISK_BYTES = 16 << 20


class Room(Protocol):
    """A place for outputs that can run out of space. `says` is text that the resulting error must contain."""

    says: str

    def new_output(self) -> str: ...

    def full(self) -> AbstractContextManager[None]:
        """Within the block, nothing can be written there."""
        ...


@dataclass
class SmallDisk:
    folder: Path
    says: str = os.strerror(errno.ENOSPC)

    def new_output(self) -> str:
        return str(self.folder / f"out-{uuid.uuid4().hex[:8]}")

    @contextmanager
    def full(self) -> Iterator[None]:
        filler, made_room = self.folder / "filler", threading.Event()
        fill(filler)
        thread = threading.Thread(target=_keep_full, args=(filler, made_room))
        thread.start()
        try:
            yield
        finally:
            made_room.set()
            thread.join()
            filler.unlink()


@dataclass
class FullStore:
    """Answers like MinIO without space. (SeaweedFS with its quota used up answers 500, which jobs retry for
    minutes.)"""

    proxy: FaultyS3
    prefix: str
    says: str = "507"

    def new_output(self) -> str:
        return f"{self.prefix}/out-{uuid.uuid4().hex[:8]}"

    @contextmanager
    def full(self) -> Iterator[None]:
        self.proxy.fail("full")
        try:
            yield
        finally:
            self.proxy.heal()


def can_mount() -> bool:
    return os.geteuid() == 0


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """A disk of 16 MB in memory; a folder that is never full for users who may not mount one."""
    folder.mkdir()
    if not can_mount():
        yield SmallDisk(folder)
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(filler: Path) -> None:
    """Appends to `filler` until the disk is full."""
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def _keep_full(filler: Path, made_room: threading.Event) -> None:
    """Deletes the unfinished file of a failed write, as real writers do, so that the next write starts clean."""
    while not made_room.wait(0.005):
        fill(filler)
