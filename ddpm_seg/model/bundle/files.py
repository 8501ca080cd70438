"""The files of a bundle: `bundle.json`, which is written last, and safetensors."""

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
"""Version of a student's bundle, and of one with guided-diffusion's DDPM."""
SCHEMA_VERSIONS = (SCHEMA_VERSION, 2, 3, 4)
"""Versions that can be read. Each newer one added networks, and makes earlier versions of this package refuse their
bundles: 2 added MAE, SwAV and diffusers' DDPMs; 3 added VDVAE, ALAE and the networks of GANs; 4 those of timm and
transformers, latent diffusion, and pairs of networks."""
MAX_DESCRIPTION_BYTES = 2**24
ASSETS = Path(__file__).parents[2] / "assets"

_MODEL_ID = re.compile("[0-9a-f]{16}")


def resolve(name_or_uri: str) -> str:
    """URI of a bundle: of a packaged one by its name ("avatars-10"), else the given path or URI."""
    return str(ASSETS / name_or_uri) if is_in_the_box(name_or_uri) else storage.normalize(name_or_uri)


def is_in_the_box(name: str) -> bool:
    """Whether a bundle with that name comes with the package."""
    return bool(name) and "/" not in name and (ASSETS / name / "bundle.json").is_file()


def refuse_existing_bundle(uri: str) -> None:
    """Raises FileExistsError if there is a bundle at `uri`. Call it before training for hours."""
    if bundle_exists(uri):
        raise FileExistsError(f"a bundle exists at {storage.redact(uri)}; choose a new --output or delete it")


def bundle_exists(uri: str) -> bool:
    """Whether there is a bundle at `uri`."""
    return storage.exists(storage.join(uri, "bundle.json"))


def model_id_of(content: Mapping[str, Any]) -> str:
    """16 hex digits, a hash of everything in `bundle.json` that can change an output: all but its provenance."""
    kept = {key: value for key, value in content.items() if key != "provenance"}
    return json_digest(kept)[:16]


def check_model_id(expected: str | None) -> None:
    """Raises ValueError if an --expect-model-id cannot be a model's id."""
    if expected is not None and not _MODEL_ID.fullmatch(expected):
        raise ValueError(
            f"--expect-model-id must be a model_id, 16 hex digits as --dry-run prints them, got {expected!r}"
        )


def refuse_another_model(uri: str, found: str, expected: str | None) -> None:
    """Raises ModelChangedError if the id `found` at `uri` is not the `expected` one; None expects any."""
    if expected is not None and found != expected:
        raise ModelChangedError(
            f"{storage.redact(uri)} holds model {found}; expected model {expected}. The bundle was replaced: put "
            f"{expected} back and run the same command again, or start a new configuration with {found} "
            "(and change --expect-model-id, if you use it)"
        )


def read_content(name_or_uri: str) -> tuple[str, dict[str, Any]]:
    """The bundle's URI and the content of its bundle.json, if its schema version is known. Raises BundleError."""
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
    """sha256 of each weights file, by name; the names must be exactly those `needed`. Raises ValueError.

    A name is opened relative to bundle.json, and must not lead anywhere else.
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
    """Raises ValueError if `content`, a bundle.json, states another input_size than its network's."""
    if content.get("input_size") != image_size:
        raise ValueError(f"input_size is {shown(content.get('input_size'))}, but the network's is {image_size}")


def refuse_missing_files(uri: str, names: Iterable[str]) -> None:
    """Raises BundleError if a weights file is missing."""
    for name in sorted(names):
        if not storage.exists(storage.join(uri, name)):
            raise BundleError(f"{storage.redact(uri)} is incomplete: {name} is missing")
        refuse_strange_file(uri, name)


def refuse_strange_file(uri: str, name: str, whole: str = "bundle") -> None:
    """Raises BundleError for a link that leads out of a local bundle, and for a device or a pipe, which never ends.

    `whole` names the folder `uri` in messages, if it is not a bundle.
    """
    if not storage.is_local(uri):
        return
    folder, path = Path(os.path.realpath(uri)), Path(os.path.realpath(Path(uri, name)))
    if not path.is_relative_to(folder) or path.is_symlink():  # still a link if links form a circle
        raise BundleError(
            f"{storage.redact(uri)}: {name} is a link to a file outside the {whole}; copy the {whole} with its "
            "files, using cp -rL"
        )
    if path.exists() and not path.is_file():
        raise BundleError(f"{storage.redact(uri)}: {name} is not an ordinary file")
