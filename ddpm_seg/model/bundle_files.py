"""The files of any bundle: `bundle.json` beside safetensors; written weights first, `bundle.json` last."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from ddpm_seg import storage

SCHEMA_VERSION = 1
NETWORKS_SCHEMA_VERSION = 2
"""Of bundles whose features come from a network that is no DDPM: versions of this package that know of DDPMs alone say
that they cannot read them."""
ASSETS = Path(__file__).parent.parent / "assets"

_MODEL_ID = re.compile("[0-9a-f]{16}")


class BundleError(ValueError):
    """A bundle that is not there, not whole, or contradicts itself."""


class ModelChangedError(BundleError):
    """A bundle that is there, but is another model than the one that was asked for."""


def resolve(name_or_uri: str) -> str:
    """URI of a bundle: the name of one in the box ("avatars-10"), or a path or URI as it is."""
    return str(ASSETS / name_or_uri) if is_in_the_box(name_or_uri) else storage.normalize(name_or_uri)


def is_in_the_box(name: str) -> bool:
    """Whether a bundle of that name comes with the package."""
    return bool(name) and "/" not in name and (ASSETS / name / "bundle.json").is_file()


def refuse_standing_bundle(uri: str) -> None:
    """Raises FileExistsError where a bundle stands at `uri`: before hours of training, rather than after."""
    if bundle_stands(uri):
        raise FileExistsError(f"a bundle stands at {storage.redact(uri)}; choose a new --output or delete it")


def bundle_stands(uri: str) -> bool:
    """Whether there is a bundle at `uri`."""
    return storage.exists(storage.join(uri, "bundle.json"))


def model_id_of(content: Mapping[str, Any]) -> str:
    """16 hex digits over all of `bundle.json` that can change an output: everything but its provenance."""
    kept = {key: value for key, value in content.items() if key != "provenance"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def check_model_id(expected: str | None) -> None:
    """Raises ValueError where an --expect-model-id cannot be any model's."""
    if expected is not None and not _MODEL_ID.fullmatch(expected):
        raise ValueError(
            f"--expect-model-id must be a model_id, 16 hex digits as --dry-run prints them, got {expected!r}"
        )


def refuse_another_model(uri: str, found: str, expected: str | None) -> None:
    """Raises ModelChangedError where the model `found` at `uri` is not the `expected` one; None expects nothing."""
    if expected is not None and found != expected:
        raise ModelChangedError(
            f"{storage.redact(uri)} holds model {found}; expected model {expected}. The bundle was replaced: put "
            f"{expected} back and run the same command again, or go on with {found}, which begins a new configuration "
            "(--expect-model-id, where it is given, must then name that one)"
        )


@contextmanager
def staged_weights(tensors: Mapping[str, Mapping[str, Tensor]]) -> Iterator[dict[str, Path]]:
    """Safetensors files of those names in a temporary folder, which goes with the block.

    Through files, one after another: memory holds one copy of the largest beside the tensors themselves.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / name for name in tensors}
        for name, path in paths.items():
            whole = {key: value.detach().cpu().contiguous() for key, value in tensors[name].items()}
            safetensors.torch.save_file(whole, path)
        yield paths


def digests(paths: Mapping[str, Path]) -> dict[str, str]:
    """sha256 of each file, by name."""
    return {name: _sha256(path) for name, path in paths.items()}


def publish(uri: str, paths: Mapping[str, Path], content: Mapping[str, Any]) -> None:
    """Copies staged weights to `uri`, and then `content` as bundle.json."""
    for name, path in paths.items():
        storage.write_bytes(storage.join(uri, name), path.read_bytes())
    storage.write_bytes(storage.join(uri, "bundle.json"), json.dumps(content, indent=1).encode())


def another_stands(uri: str) -> FileExistsError:
    """What to raise where another bundle stands at `uri`."""
    return FileExistsError(f"another bundle stands at {storage.redact(uri)}; choose a new --output or delete it")


def read_content(name_or_uri: str) -> tuple[str, dict[str, Any]]:
    """The bundle's URI and its bundle.json, of this schema version. Raises BundleError."""
    uri = resolve(name_or_uri)
    try:
        content = json.loads(storage.read_bytes(storage.join(uri, "bundle.json")))
    except (FileNotFoundError, NotADirectoryError):
        in_the_box = sorted(path.parent.name for path in ASSETS.glob("*/bundle.json"))
        raise BundleError(
            f"no model bundle at {storage.redact(uri)} (bundle.json is missing); in the box: {', '.join(in_the_box)}"
        ) from None
    except ValueError as error:
        raise BundleError(f"{storage.redact(uri)}/bundle.json is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{storage.redact(uri)}/bundle.json must hold a JSON object, got {type(content).__name__}")
    if content.get("schema_version") not in (SCHEMA_VERSION, NETWORKS_SCHEMA_VERSION):
        raise BundleError(
            f"{storage.redact(uri)} has schema version {content.get('schema_version')}; "
            f"this version reads {SCHEMA_VERSION} and {NETWORKS_SCHEMA_VERSION}"
        )
    return uri, content


def with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's fields as it has them: JSON knows lists alone."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def refuse_missing_files(uri: str, files: Mapping[str, str], needed: Iterable[str]) -> None:
    """Raises BundleError where a weights file is missing from `files` or from its place."""
    for name in sorted({*needed, *files}):
        if name not in files or not storage.exists(storage.join(uri, name)):
            raise BundleError(f"{storage.redact(uri)} is not whole: {name} is missing")


def load_files(uri: str, content: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, dict[str, Tensor]]:
    """Tensors of each of the bundle's `files` (names with their sha256), by the file's name.

    `content` is its bundle.json as it was read before. Raises ModelChangedError where another stands there by now, and
    BundleError for a file that is damaged.
    """
    try:
        return {name: _load_tensors(storage.join(uri, name), sha256) for name, sha256 in files.items()}
    except (BundleError, FileNotFoundError) as error:
        refuse_another_model(uri, model_id_of(read_content(uri)[1]), model_id_of(content))
        if isinstance(error, FileNotFoundError):
            raise BundleError(f"{storage.redact(uri)} is not whole: a file of weights is missing ({error})") from error
        raise


def _load_tensors(uri: str, sha256: str) -> dict[str, Tensor]:
    # In memory, and not mapped: a model that is at work would follow whatever is written into its file.
    data = storage.read_bytes(uri)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BundleError(
            f"{storage.redact(uri)} is damaged, or is being replaced: its sha256 is not the one in bundle.json"
        )
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise BundleError(f"{storage.redact(uri)} is not a safetensors file: {error}") from error


def check_shapes(what: str, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises BundleError where `tensors` are others than `expected`."""
    if missing := sorted(set(expected) - set(tensors)):
        raise BundleError(f"{what}: {len(missing)} tensors are missing, the first is {missing[0]}")
    if extra := sorted(set(tensors) - set(expected)):
        raise BundleError(f"{what}: {len(extra)} unknown tensors, the first is {extra[0]}")
    for key, shape in expected.items():
        if tuple(tensors[key].shape) != shape:
            raise BundleError(f"{what}: {key} has shape {tuple(tensors[key].shape)}, expected {shape}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
