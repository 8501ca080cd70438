"""Data files of Lance tables with a column of images. Lance never changes such a file, but writes new ones.

Some damaged files make Lance abort its process (a panic where Rust cannot unwind). The label job then has rows with
`killed_worker`, as for any image that kills its process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO

from ddpm_seg import storage
from ddpm_seg.data.inputs import image_column
from ddpm_seg.data.inputs.container import UNCHOSEN, Choice, Kind, Member

ROWS_AT_ONCE = 16
MANY_ROWS = 1_000_000


class LanceError(ValueError):
    """A file that Lance cannot read."""


class LanceContainer:
    """An opened data file. An image's name is the number of its row in the file, as in a Parquet table."""

    def __init__(self, file: BinaryIO) -> None:
        self._uri = str(file.name)  # Lance reads with its own requests
        reader = open_lance(self._uri)
        with _errors_named(self._uri):
            about = reader.metadata()
            self._schema, self._rows = about.schema, int(about.num_rows)

    def holds_images(self, choice: Choice) -> bool:
        return image_column.holds_images(self._schema, choice)

    def members(self, choice: Choice) -> Iterator[Member]:
        if self._rows > MANY_ROWS:  # a damaged file may say any number, so look whether the last one is there
            name = f"{choice.image_column or ''}/{self._rows - 1}"
            list(self.read_members([image_column.member_of_name(name, self._rows)], 0))
        return image_column.members(self._rows, choice)

    def names(self) -> Iterator[str]:
        return (member.name for member in self.members(UNCHOSEN))

    def read(self, name: str, max_bytes: int) -> bytes:
        (found,) = self.read_members([image_column.member_of_name(name, self._rows)], max_bytes)
        if isinstance(found, Exception):
            raise found
        return found

    def read_members(self, members: Sequence[Member], max_bytes: int) -> Iterator[bytes | Exception]:
        if members and members[-1].start >= self._rows:
            raise ValueError(f"it ends before row {members[-1].start}")
        left = iter(members)
        while some := list(islice(left, ROWS_AT_ONCE)):
            reader = open_lance(self._uri, [image_column.path_of_bytes(self._schema, some[0].name)])
            with _errors_named(self._uri):
                table = reader.take_rows([member.start for member in some], batch_size=ROWS_AT_ONCE).to_table()
                cells = table.column(0).to_pylist()
            if len(cells) < len(some):
                raise ValueError(f"it ends before row {some[-1].start}")
            for cell in cells:
                yield image_column.image_of_cell(cell, max_bytes)


LANCE = Kind(
    suffixes=(".lance",),
    open=lambda file: found if (found := LanceContainer(file)).holds_images(UNCHOSEN) else None,
    errors=(LanceError,),
    open_indexed=LanceContainer,
)


def open_lance(uri: str, columns: list[str] | None = None) -> Any:
    """Lance's reader of a data file. Raises ValueError if the library is not installed."""
    try:
        from lance.file import LanceFileReader
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}: files of Lance tables need pip install 'ddpm_seg[lance]'") from error
    with _errors_named(uri):
        return LanceFileReader(uri, storage_options=store_options(), columns=columns)


@contextmanager
def _errors_named(uri: str) -> Iterator[None]:
    """Turns what Lance raises for a damaged file into a LanceError; where its authors expected no damage, that is a
    panic, which is no Exception. Raises StorageUnavailableError if the store does not answer."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, RuntimeError | OSError | ValueError) and type(error).__name__ != "PanicException":
            raise
        storage.info(uri, listed=True)
        text = re.sub(r",? \S*/rust/\S+$", "", " ".join(str(error).split()))
        raise LanceError(text) from None


def store_options() -> dict[str, str]:
    """What libraries in Rust need to be told about the object store, beside the environment that all read."""
    return {"allow_http": "true"} if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://") else {}
