"""A DDPM and its ensemble on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.bundle_files import (
    SCHEMA_VERSION,
    BundleError,
    another_stands,
    bundle_stands,
    check_shapes,
    digests,
    load_tensors,
    model_id_of,
    publish,
    read_content,
    refuse_missing_files,
    resolve,
    staged_weights,
)
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.ensemble import member_shapes
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.unet import UNet, UNetConfig
from ddpm_seg.tasks import Task

UNET, ENSEMBLE, NOISE = "unet.safetensors", "ensemble.safetensors", "noise.safetensors"


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
        return model_id_of(header_to_json(self))

    @property
    def image_size(self) -> int:
        """Side of the network's square input."""
        return self.unet.image_size


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
        check_shapes("unet", self.unet_weights, unet_shapes(self.unet))
        if not self.members:
            return
        if self.features is None or self.task is None:
            raise BundleError("a bundle with an ensemble needs its features and its task")
        self.features.check(self.unet, self.diffusion)
        expected = member_shapes(self.task.num_classes, sum(self.features.channels(self.unet)))
        for index, member in enumerate(self.members):
            check_shapes(f"ensemble member {index}", member, expected)


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
    with staged_weights(tensors) as paths:
        header = BundleHeader(
            unet=bundle.unet,
            diffusion=bundle.diffusion,
            features=bundle.features,
            task=bundle.task,
            num_members=len(bundle.members),
            files=digests(paths),
            provenance=bundle.provenance,
        )
        if not bundle_stands(uri):
            publish(uri, paths, header_to_json(header))
        elif read_header(uri).model_id != header.model_id:
            raise another_stands(uri)
    return header


def read_header(name_or_uri: str) -> BundleHeader:
    """The bundle's description, without its tensors. Raises BundleError, naming what is wrong and where."""
    uri, content = read_content(name_or_uri)
    if "student" in content:
        raise BundleError(
            f"{storage.redact(uri)} holds a student, which labels images but has no DDPM; give a bundle that "
            "jobs.pretrain, jobs.convert or jobs.train wrote"
        )
    try:
        header = _header_from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{storage.redact(uri)}/bundle.json: {type(error).__name__}: {error}") from error
    refuse_missing_files(uri, header.files, (UNET, NOISE))
    return header


def load_bundle(name_or_uri: str) -> Bundle:
    """The bundle with its tensors, each file checked against its sha256. Raises BundleError."""
    uri = resolve(name_or_uri)
    header = read_header(uri)
    tensors = {name: load_tensors(storage.join(uri, name), sha256) for name, sha256 in header.files.items()}
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


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
