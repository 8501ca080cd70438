"""A kind of container for tests: zip archives. It is what the recipe for a new kind asks for, no more."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.data.inputs.container import Kind


class ZipContainer:
    def __init__(self, file: BinaryIO) -> None:
        self._archive = zipfile.ZipFile(file)

    def names(self) -> Iterator[str]:
        return (name for name in self._archive.namelist() if name.lower().endswith(tuple(EXTENSIONS)))

    def read(self, name: str, max_bytes: int) -> bytes:
        if name not in self._archive.NameToInfo:
            raise FileNotFoundError(f"there is no {name!r} in the archive")
        with self._archive.open(name) as image:
            return image.read(max_bytes + 1)


ZIP = Kind(suffixes=(".zip",), open=ZipContainer, errors=(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError))


def zip_of(images: dict[str, bytes]) -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in images.items():
            archive.writestr(name, data)
    return buffer.getvalue()
