"""Names of generated samples: from the name in a table, export or annotation a sample can be drawn again."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from functools import cache

from ddpm_seg import storage

PICTURES = "pictures.csv"
"""File of an export that lists, for each picture's name, which sample it is (column `uri`)."""
MAX_LIST_BYTES = 2**28

_NAME = re.compile(r"sample:(\d{1,19})/(\d{1,19})")


@dataclass(frozen=True, order=True, slots=True)
class SampleName:
    """A sample by its seed and number. Names with the same seed sort by number."""

    seed: int
    number: int

    def __str__(self) -> str:
        return f"sample:{self.seed}/{self.number:09d}"

    @classmethod
    def parse(cls, uri: str) -> SampleName | None:
        """The sample that `uri` names, or None for any other URI."""
        match = _NAME.fullmatch(uri)
        return cls(int(match[1]), int(match[2])) if match else None


class SampleFinder:
    """Finds which sample an annotated picture is."""

    def __init__(self) -> None:
        self._listed = cache(_listed)

    def find(self, uri: str) -> SampleName | None:
        """The sample that `uri` names, or that its export's `pictures.csv`, in the file's folder or the one above,
        gives for it. None if neither does."""
        if (named := SampleName.parse(uri)) is not None:
            return named
        folder, _, file = storage.normalize(uri).rpartition("/")
        for place in (folder, folder.rpartition("/")[0]):
            if (found := self._listed(place).get(file.rpartition(".")[0])) is not None:
                return found
        return None


def _listed(folder: str) -> dict[str, SampleName]:
    """The samples in the list in `folder`, by their pictures' names; empty without a list."""
    uri = storage.join(folder, PICTURES) if folder else ""
    try:
        if not uri or not storage.exists(uri):
            return {}
    except (ValueError, PermissionError):  # a name that no file can have, or a place that is not ours
        return {}
    rows = csv.DictReader(io.StringIO(storage.read_bytes(uri, max_bytes=MAX_LIST_BYTES).decode("utf-8", "replace")))
    named = ((row.get("name"), SampleName.parse(row.get("uri") or "")) for row in rows)
    return {name: sample for name, sample in named if name and sample}
