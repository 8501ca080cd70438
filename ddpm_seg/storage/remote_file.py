"""A remote file that is read in parts: only the requested bytes are transferred, each with its own retried request."""

from __future__ import annotations

import io
import os
from typing import Any

from ddpm_seg.storage import remote


class RemoteFile(io.RawIOBase):
    """A read-only file without buffer or read-ahead: the Parquet reader requests exactly what it needs.

    If an S3 object is replaced while it is open, reading raises StorageError; in other storage the file must not change
    meanwhile. `guarded`: see `stores.store_of`. `version`: what `remote.info` returned earlier, so that it is not asked
    again. Raises FileNotFoundError if the file does not exist.
    """

    def __init__(self, uri: str, *, guarded: bool = False, version: dict[str, Any] | None = None) -> None:
        self.name = uri
        self._uri, self._guarded, self._position = uri, guarded, 0
        self.version = remote.info(uri, guarded=guarded) if version is None else version
        """What the storage says about the file, as `remote.info` returns it."""
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
