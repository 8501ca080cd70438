"""A model on disk: `bundle.json` beside safetensors files; written weights first, `bundle.json` last."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.ensemble import member_shapes
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.unet import UNet, UNetConfig
from ddpm_seg.tasks import Task

SCHEMA_VERSION = 1
ASSETS = Path(__file__).parent.parent / "assets"
UNET, ENSEMBLE, NOISE = "unet.safetensors", "ensemble.safetensors", "noise.safetensors"


class BundleError(ValueError):
    """A bundle that is not there, not whole, or contradicts itself."""


@dataclass(frozen=True, kw_only=True)
class BundleHeader:
    """What `bundle.json` says: everything but the tensors."""

    unet: UNetConfig
    diffusion: DiffusionConfig
    features: FeatureConfig | None
    task: Task | None
    num_members: int
    files: Mapping[str, str]
    """sha256 of each weights file, by name."""
    provenance: Mapping[str, Any]

    @property
    def model_id(self) -> str:
        """16 hex digits over everything that can change an output: architecture, features, task and weights."""
        content = {key: value for key, value in header_to_json(self).items() if key != "provenance"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model in memory; without `members` a DDPM that awaits an ensemble."""

    unet: UNetConfig
    diffusion: DiffusionConfig
    unet_weights: Mapping[str, Tensor]
    """The published state-dict keys."""
    noise: Tensor
    """(1, 3, S, S) float32: the noise that every image shares (part of the model; see DDPM-Seg's `share_noise`)."""
    features: FeatureConfig | None = None
    members: tuple[Mapping[str, Tensor], ...] = ()
    task: Task | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.unet.image_size
        if tuple(self.noise.shape) != (1, 3, size, size):
            raise BundleError(f"noise must be (1, 3, {size}, {size}), got {tuple(self.noise.shape)}")
        _check_shapes("unet", self.unet_weights, unet_shapes(self.unet))
        if not self.members:
            return
        if self.features is None or self.task is None:
            raise BundleError("a bundle with an ensemble needs its features and its task")
        self.features.check(self.unet, self.diffusion)
        expected = member_shapes(self.task.num_classes, sum(self.features.channels(self.unet)))
        for index, member in enumerate(self.members):
            _check_shapes(f"ensemble member {index}", member, expected)


def unet_shapes(config: UNetConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every entry of the network's state dict; no memory is spent on weights."""
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in UNet(config).state_dict().items()}


def network_digest(bundle: Bundle) -> str:
    """64 hex digits over the network that features come from: its configuration, weights and noise."""
    configs = [dataclasses.asdict(bundle.unet), dataclasses.asdict(bundle.diffusion)]
    sha256 = hashlib.sha256(json.dumps(configs, sort_keys=True).encode())
    for tensor in (bundle.noise, *(bundle.unet_weights[key] for key in sorted(bundle.unet_weights))):
        sha256.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def save_bundle(bundle: Bundle, uri: str) -> BundleHeader:
    """Writes `bundle` under `uri`. Raises FileExistsError where another bundle stands; the same one is left alone."""
    ensemble = {f"member_{i}.{key}": value for i, member in enumerate(bundle.members) for key, value in member.items()}
    tensors = {UNET: bundle.unet_weights, NOISE: {"noise": bundle.noise}} | ({ENSEMBLE: ensemble} if ensemble else {})
    # Through files, one after another: memory holds one copy of the largest beside the bundle itself.
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / name for name in tensors}
        for name, path in paths.items():
            safetensors.torch.save_file(_contiguous(tensors[name]), path)
        header = BundleHeader(
            unet=bundle.unet,
            diffusion=bundle.diffusion,
            features=bundle.features,
            task=bundle.task,
            num_members=len(bundle.members),
            files={name: _sha256(path) for name, path in paths.items()},
            provenance=bundle.provenance,
        )
        if storage.exists(storage.join(uri, "bundle.json")):
            if read_header(uri).model_id == header.model_id:
                return header
            raise FileExistsError(f"another bundle stands at {storage.redact(uri)}; choose a new --output or delete it")
        for name, path in paths.items():
            storage.write_bytes(storage.join(uri, name), path.read_bytes())
    storage.write_bytes(storage.join(uri, "bundle.json"), json.dumps(header_to_json(header), indent=1).encode())
    return header


def refuse_standing_bundle(uri: str) -> None:
    """Raises FileExistsError where a bundle stands at `uri`: before hours of training, rather than after."""
    if storage.exists(storage.join(uri, "bundle.json")):
        raise FileExistsError(f"a bundle stands at {storage.redact(uri)}; choose a new --output or delete it")


def resolve(name_or_uri: str) -> str:
    """URI of a bundle: the name of one in the box ("avatars-10"), or a path or URI as it is."""
    return str(ASSETS / name_or_uri) if is_in_the_box(name_or_uri) else storage.normalize(name_or_uri)


def is_in_the_box(name: str) -> bool:
    """Whether a bundle of that name comes with the package."""
    return bool(name) and "/" not in name and (ASSETS / name / "bundle.json").is_file()


def read_trained_header(name_or_uri: str) -> tuple[BundleHeader, Task]:
    """The description of a bundle that can segment, and its task. Raises BundleError for one without an ensemble."""
    header = read_header(name_or_uri)
    if header.task is None or not header.num_members:
        raise BundleError(f"{name_or_uri} holds a DDPM without an ensemble; train one with `python -m jobs.train`")
    return header, header.task


def read_header(name_or_uri: str) -> BundleHeader:
    """The bundle's description, without its tensors. Raises BundleError, naming what is wrong and where."""
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
    if content.get("schema_version") != SCHEMA_VERSION:
        raise BundleError(
            f"{storage.redact(uri)} has schema version {content.get('schema_version')}; "
            f"this version reads {SCHEMA_VERSION}"
        )
    try:
        header = _header_from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{storage.redact(uri)}/bundle.json: {type(error).__name__}: {error}") from error
    for name in sorted({UNET, NOISE, *header.files}):
        if name not in header.files or not storage.exists(storage.join(uri, name)):
            raise BundleError(f"{storage.redact(uri)} is not whole: {name} is missing")
    return header


def load_bundle(name_or_uri: str) -> Bundle:
    """The bundle with its tensors, each file checked against its sha256. Raises BundleError."""
    uri = resolve(name_or_uri)
    header = read_header(uri)
    tensors = {name: _load_tensors(storage.join(uri, name), sha256) for name, sha256 in header.files.items()}
    ensemble = tensors.get(ENSEMBLE, {})
    members = tuple(_with_prefix(ensemble, f"member_{i}.") for i in range(header.num_members))
    if sum(map(len, members)) != len(ensemble):
        raise BundleError(f"{storage.redact(uri)} holds other members than the {header.num_members} of bundle.json")
    try:
        return Bundle(
            unet=header.unet,
            diffusion=header.diffusion,
            unet_weights=tensors[UNET],
            noise=tensors[NOISE]["noise"],
            features=header.features,
            members=members,
            task=header.task,
            provenance=header.provenance,
        )
    except (KeyError, ValueError) as error:
        raise BundleError(f"{storage.redact(uri)} contradicts itself: {error}") from error


def header_to_json(header: BundleHeader) -> dict[str, Any]:
    """The content of `bundle.json`."""
    return {
        "schema_version": SCHEMA_VERSION,
        # 1 and 1.0 are the same multiplier and must not make two models.
        "unet": dataclasses.asdict(header.unet) | {"channel_mult": [float(mult) for mult in header.unet.channel_mult]},
        "diffusion": dataclasses.asdict(header.diffusion),
        "features": dataclasses.asdict(header.features) if header.features else None,
        "task": header.task.to_dict() if header.task else None,
        "input_size": header.unet.image_size,
        "num_members": header.num_members,
        "files": dict(header.files),
        "provenance": dict(header.provenance),
    }


def _header_from_json(content: dict[str, Any]) -> BundleHeader:
    def tuples(values: dict[str, Any]) -> dict[str, Any]:
        return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}

    return BundleHeader(
        unet=UNetConfig(**tuples(content["unet"])),
        diffusion=DiffusionConfig(**content["diffusion"]),
        features=FeatureConfig(**tuples(content["features"])) if content["features"] else None,
        task=Task.from_dict(content["task"]) if content["task"] else None,
        num_members=content["num_members"],
        files=content["files"],
        provenance=content["provenance"],
    )


def _load_tensors(uri: str, sha256: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file; a remote one passes through a temporary file, so that memory holds one copy."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(uri)
        if not storage.is_local(uri):
            path = Path(folder) / "weights.safetensors"
            path.write_bytes(storage.read_bytes(uri))
        if _sha256(path) != sha256:
            raise BundleError(f"{storage.redact(uri)} is damaged: its sha256 is not the one in bundle.json")
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise BundleError(f"{storage.redact(uri)} is not a safetensors file: {error}") from error


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _contiguous(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in entries.items()}


def _check_shapes(what: str, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    if missing := sorted(set(expected) - set(tensors)):
        raise BundleError(f"{what}: {len(missing)} tensors are missing, the first is {missing[0]}")
    if extra := sorted(set(tensors) - set(expected)):
        raise BundleError(f"{what}: {len(extra)} unknown tensors, the first is {extra[0]}")
    for key, shape in expected.items():
        if tuple(tensors[key].shape) != shape:
            raise BundleError(f"{what}: {key} has shape {tuple(tensors[key].shape)}, expected {shape}")
