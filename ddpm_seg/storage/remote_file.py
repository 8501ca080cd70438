"""A remote file of which only the parts asked for travel, each by a patient request of its own."""

from __future__ import annotations

import io
import os
from typing import Any

from ddpm_seg.storage import remote


class RemoteFile(io.RawIOBase):
    """Read-only, without buffer or read-ahead: Parquet's reader knows what it needs, and asks for it in one piece.

    Where S3 has another object there by now, reading raises StorageError; in another storage, the file must not change
    while it is open. `guarded` as in `stores.store_of`. Raises FileNotFoundError where it is not there.
    """

    def __init__(self, uri: str, *, guarded: bool = False) -> None:
        self._uri, self._guarded, self._position = uri, guarded, 0
        self.version = remote.info(uri, guarded=guarded)
        """What the storage says of the file, in the words of `remote.info`."""
        self._size: int = self.version["size"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        data = remote.read_range(self._uri, self._position, end, self.version.get("ETag"), self._guarded)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
