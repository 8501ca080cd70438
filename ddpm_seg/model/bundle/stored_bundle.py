"""Writes and reads bundles of any kind; their header says which files they have and what is in these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.json_text import to_json
from ddpm_seg.model.bundle.files import bundle_exists, read_content, refuse_another_model, refuse_missing_files
from ddpm_seg.model.bundle.weight_files import digests, load_files, staged_weights
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.json_values import one_line
from ddpm_seg.model.shapes import Shapes


class Header(Protocol):
    """The content of `bundle.json`: everything but the tensors."""

    @property
    def files(self) -> Mapping[str, str]:
        """sha256 of each weights file, by name."""

    @property
    def model_id(self) -> str:
        """16 hex digits, a hash of everything that can change an output."""

    def to_json(self) -> dict[str, Any]:
        """The content of `bundle.json`."""

    @classmethod
    def from_json(cls: type[H], content: Mapping[str, Any]) -> H:
        """The header in `content`. Raises ValueError naming the key."""

    def tensor_shapes(self) -> Mapping[str, Shapes]:
        """Shape of every tensor, by file and name. Raises BundleError for a network that cannot be built."""


H = TypeVar("H", bound=Header)


def write_bundle(
    uri: str,
    tensors: Mapping[str, Mapping[str, Tensor]],
    describe: Callable[[Mapping[str, str]], H],
    beside: Mapping[str, bytes] | None = None,
) -> H:
    """Writes `tensors`, by file and name, under `uri`, then the header that `describe` makes from the files' sha256.
    Files `beside` them are no part of the header.

    Raises FileExistsError if another bundle exists there; an equal one is left alone.
    """
    with staged_weights(tensors) as paths:
        header = describe(digests(paths))
        if not bundle_exists(uri):
            for name, content in (beside or {}).items():
                storage.write_bytes(storage.join(uri, name), content)
            _publish(uri, paths, header.to_json())
        elif not _stands(header, uri):
            raise FileExistsError(f"another bundle exists at {storage.redact(uri)}; choose a new --output or delete it")
    return header


def header_of(kind: type[H], uri: str, content: Mapping[str, Any]) -> H:
    """The header of the bundle at `uri` with this `content` of bundle.json. Raises BundleError naming what is wrong."""
    try:
        header = kind.from_json(content)
    except ValueError as error:
        raise BundleError(f"{storage.redact(uri)}/bundle.json: {one_line(error)}") from error
    refuse_missing_files(uri, header.files)
    return header


def load_tensors(
    uri: str, content: Mapping[str, Any], header: Header, model_id: str | None
) -> dict[str, dict[str, Tensor]]:
    """The tensors of the bundle at `uri`, by file and name, each file checked against its sha256.

    Raises BundleError; ModelChangedError if its id is not `model_id`, or if it is replaced while being read.
    """
    refuse_another_model(uri, header.model_id, model_id)
    try:
        expected = header.tensor_shapes()
    except BundleError as error:
        raise BundleError(f"{storage.redact(uri)}: {error}") from error
    return load_files(uri, content, header.files, expected)


def _publish(uri: str, paths: Mapping[str, Path], content: Mapping[str, Any]) -> None:
    """Copies staged weights to `uri`, and then writes `content` as bundle.json."""
    for name, path in paths.items():
        storage.write_bytes(storage.join(uri, name), path.read_bytes())
    storage.write_bytes(storage.join(uri, "bundle.json"), to_json(content, indent=1))


def _stands(header: Header, uri: str) -> bool:
    """Whether the bundle at `uri` is complete and the same model as `header`."""
    try:
        return header_of(type(header), *read_content(uri)).model_id == header.model_id
    except BundleError:
        return False
