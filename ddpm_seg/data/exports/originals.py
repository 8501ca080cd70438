"""What a container says about its images beside their pixels: a table's other columns, a tar's other members."""

from __future__ import annotations

import json
from collections.abc import Sequence
from threading import Lock
from typing import Any

import pyarrow.parquet as pq

from ddpm_seg import storage
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.container import Member
from ddpm_seg.data.inputs.lance_container import open_lance
from ddpm_seg.data.inputs.tar_container import TarContainer
from ddpm_seg.data.inputs.tar_samples import split_name

MAX_BYTES = 1 << 24
"""Size of the largest member that is kept."""


class Originals:
    """Finds the values called `names` for images in containers: in a Parquet table the columns of the image's row, in a
    tar the members `KEY.NAME` of its sample, else the fields `NAME` in `KEY.json`.

    Holds what it found in one container at a time. May be used from many threads.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._lock = tuple(names), Lock()
        self._container, self._values = "", dict[str, dict[str, Any]]()
        self.found: set[str] = set()
        """The names of which some image had a value."""

    def of(self, uri: str) -> dict[str, Any]:
        """Each name with the image's value, or None. Raises OSError or ValueError if the container cannot be read."""
        container, member = sources.split(uri)
        values: dict[str, Any] = {}
        if member and self._names:
            with self._lock:
                if container != self._container:
                    self._container, self._values = "", {}
                    self._values, self._container = self._all_in(container), container
                key = member[1:] if sources.kind_name(container) == "tar" else member.rpartition("/")[2].lstrip("#")
                values = self._values.get(_sample_key(key), {})
        self.found.update(name for name, value in values.items() if value is not None)
        return {name: values.get(name) for name in self._names}

    def _all_in(self, container: str) -> dict[str, dict[str, Any]]:
        with sources.damage_named(container), storage.open_listed(container)[0] as file:
            if sources.kind_name(container) == "tar":
                return _in_tar(TarContainer(file), self._names)
            if sources.kind_name(container) == "lance":
                names = open_lance(container).metadata().schema.names
                columns = [name for name in self._names if name in names]
                rows = open_lance(container, columns).read_all().to_table().to_pylist() if columns else []
                return {str(number): row for number, row in enumerate(rows)}
            with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
                columns = [name for name in self._names if name in parquet.schema_arrow.names]
                rows = parquet.read(columns=columns).to_pylist() if columns else []
            return {str(number): row for number, row in enumerate(rows)}


def _in_tar(tar: TarContainer, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    wanted: list[tuple[str, str, Member]] = []
    for member in tar.all_members():
        key, rest = split_name(member.name)
        if rest in names or rest == "json":
            wanted.append((key, rest, member))
    contents = tar.read_members([member for _, _, member in wanted], MAX_BYTES)
    values: dict[str, dict[str, Any]] = {}
    for (key, rest, member), content in zip(wanted, contents, strict=True):
        if isinstance(content, Exception):
            raise ValueError(f"{member.name}: {content}")
        of_sample = values.setdefault(key, {})
        if rest == "json":
            of_sample.update({name: value for name, value in _fields(content, names).items() if name not in of_sample})
        if rest in names:
            of_sample[rest] = _text(content)
    return values


def _sample_key(name: str) -> str:
    return split_name(name)[0] if "." in name else name


def _fields(data: bytes, names: Sequence[str]) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return {name: found[name] for name in names if name in found} if isinstance(found, dict) else {}


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
