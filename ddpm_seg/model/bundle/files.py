"""The files of any bundle: `bundle.json` beside safetensors; written weights first, `bundle.json` last."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ddpm_seg import storage
from ddpm_seg.json_text import json_digest
from ddpm_seg.model.errors import BundleError, ModelChangedError
from ddpm_seg.model.json_values import as_object, parse_object, shown

SCHEMA_VERSION = 1
"""Of a student's bundle, and of one with guided-diffusion's DDPM."""
SCHEMA_VERSIONS = (SCHEMA_VERSION, 2, 3)
"""Those that can be read. Each later one came with further networks, so that earlier versions of this package say that
they cannot read them: 2 with MAE, SwAV and the DDPMs of diffusers, 3 with VDVAE, ALAE and the networks of GANs."""
MAX_DESCRIPTION_BYTES = 2**24
ASSETS = Path(__file__).parents[2] / "assets"

_MODEL_ID = re.compile("[0-9a-f]{16}")


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
    return json_digest(kept)[:16]


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


def read_content(name_or_uri: str) -> tuple[str, dict[str, Any]]:
    """The bundle's URI and its bundle.json, of this schema version. Raises BundleError."""
    uri = resolve(name_or_uri)
    where = f"{storage.redact(uri)}/bundle.json"
    try:
        refuse_strange_file(uri, "bundle.json")
        data = storage.read_bytes(storage.join(uri, "bundle.json"), max_bytes=MAX_DESCRIPTION_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        in_the_box = sorted(path.parent.name for path in ASSETS.glob("*/bundle.json"))
        raise BundleError(
            f"no model bundle at {storage.redact(uri)} (bundle.json is missing); in the box: {', '.join(in_the_box)}"
        ) from None
    except storage.FileTooLargeError as error:
        raise BundleError(
            f"{where} has more than {MAX_DESCRIPTION_BYTES} bytes; expected a short description"
        ) from error
    try:
        content = parse_object(data)
    except ValueError as error:
        raise BundleError(f"{where}: {error}") from error
    version = content.get("schema_version")
    if type(version) is not int or version not in SCHEMA_VERSIONS:
        raise BundleError(
            f"{storage.redact(uri)} has schema version {shown(version)}; "
            f"this version reads {', '.join(map(str, SCHEMA_VERSIONS))}"
        )
    return uri, content


def read_files(content: Mapping[str, Any], needed: Iterable[str]) -> dict[str, str]:
    """sha256 of each weights file, by name: exactly those `needed`. Raises ValueError.

    A bundle names no files but its own: a name is opened beside bundle.json, and could lead anywhere.
    """
    files = as_object(content.get("files"), "files")
    needed = list(needed)
    if missing := [name for name in needed if name not in files]:
        raise ValueError(f"files: {missing[0]} is missing")
    if unknown := sorted(set(files) - set(needed)):
        raise ValueError(f"files has {shown(unknown[0])}, expected only {', '.join(needed)}")
    for name, sha256 in files.items():
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ValueError(f"files: {name} is {shown(sha256)}, expected a sha256 of 64 hex digits")
    return files


def check_input_size(content: Mapping[str, Any], image_size: int) -> None:
    """Raises ValueError where `content`, a bundle.json, says another input_size than its network's."""
    if content.get("input_size") != image_size:
        raise ValueError(f"input_size is {shown(content.get('input_size'))}, but the network's is {image_size}")


def refuse_missing_files(uri: str, names: Iterable[str]) -> None:
    """Raises BundleError where a weights file is not in its place."""
    for name in sorted(names):
        if not storage.exists(storage.join(uri, name)):
            raise BundleError(f"{storage.redact(uri)} is not whole: {name} is missing")
        refuse_strange_file(uri, name)


def refuse_strange_file(uri: str, name: str, whole: str = "bundle") -> None:
    """Raises BundleError for a link that leads out of a local bundle, and for a device or a pipe, which has no end.

    `whole` is what messages call the folder `uri`, where it is no bundle.
    """
    if not storage.is_local(uri):
        return
    folder, path = Path(os.path.realpath(uri)), Path(os.path.realpath(Path(uri, name)))
    if not path.is_relative_to(folder) or path.is_symlink():  # which it still is where links go round in a circle
        raise BundleError(
            f"{storage.redact(uri)}: {name} is a link to a file outside the {whole}; copy the {whole} with its "
            "files, by cp -rL"
        )
    if path.exists() and not path.is_file():
        raise BundleError(f"{storage.redact(uri)}: {name} is not an ordinary file")
