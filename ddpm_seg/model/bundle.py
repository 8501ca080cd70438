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
    BundleError,
    another_stands,
    bundle_stands,
    check_shapes,
    digests,
    load_files,
    model_id_of,
    publish,
    read_content,
    refuse_another_model,
    refuse_missing_files,
    staged_weights,
    with_tuples,
)
from ddpm_seg.model.ddpm import DDPMConfig
from ddpm_seg.model.ensemble import member_shapes
from ddpm_seg.model.features import FeatureConfig, Network
from ddpm_seg.model.networks import network_from_json, network_to_json, require_ddpm, schema_version, weight_shapes
from ddpm_seg.tasks import Task

ENSEMBLE, NOISE = "ensemble.safetensors", "noise.safetensors"


@dataclass(frozen=True, kw_only=True)
class BundleHeader:
    """What `bundle.json` says: everything but the tensors."""

    network: Network
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
        return self.network.image_size

    @property
    def ddpm(self) -> DDPMConfig:
        """The network, for what only a DDPM can do. Raises BundleError where it is another."""
        return require_ddpm(self.network)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model in memory; without `members` a network that awaits an ensemble."""

    network: Network
    weights: Mapping[str, Tensor]
    """Of the network; a DDPM's under the published state-dict keys."""
    noise: Tensor | None = None
    """(1, 3, S, S) float32: the noise that every image shares (part of a DDPM; see DDPM-Seg's `share_noise`)."""
    features: FeatureConfig | None = None
    members: tuple[Mapping[str, Tensor], ...] = ()
    task: Task | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.network.image_size
        expected_noise = (1, 3, size, size) if self.network.timesteps else None
        found = None if self.noise is None else tuple(self.noise.shape)
        if found != expected_noise:
            raise BundleError(f"noise must be {expected_noise}, got {found}")
        check_shapes(self.network.kind, self.weights, weight_shapes(self.network))
        if not self.members:
            return
        if self.features is None or self.task is None:
            raise BundleError("a bundle with an ensemble needs its features and its task")
        self.features.check(self.network)
        expected = member_shapes(self.task.num_classes, sum(self.features.channels(self.network)))
        for index, member in enumerate(self.members):
            check_shapes(f"ensemble member {index}", member, expected)

    @property
    def ddpm(self) -> DDPMConfig:
        """The network, for what only a DDPM can do. Raises BundleError where it is another."""
        return require_ddpm(self.network)


def network_file(network: Network) -> str:
    """Name of the file of its weights."""
    return f"{network.kind}.safetensors"


def network_digest(bundle: Bundle) -> str:
    """64 hex digits over the network that features come from: its configuration, weights and noise."""
    config = list(network_to_json(bundle.network).values())
    sha256 = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    noise = () if bundle.noise is None else (bundle.noise,)
    for tensor in (*noise, *(bundle.weights[key] for key in sorted(bundle.weights))):
        sha256.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def save_bundle(bundle: Bundle, uri: str) -> BundleHeader:
    """Writes `bundle` under `uri`. Raises FileExistsError where another bundle stands; the same one is left alone."""
    ensemble = {f"member_{i}.{key}": value for i, member in enumerate(bundle.members) for key, value in member.items()}
    tensors = {network_file(bundle.network): bundle.weights}
    tensors |= {NOISE: {"noise": bundle.noise}} if bundle.noise is not None else {}
    tensors |= {ENSEMBLE: ensemble} if ensemble else {}
    with staged_weights(tensors) as paths:
        header = BundleHeader(
            network=bundle.network,
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
    return header_of(*read_content(name_or_uri))


def header_of(uri: str, content: dict[str, Any]) -> BundleHeader:
    """`read_header` of the bundle at `uri` whose bundle.json is `content`."""
    if "student" in content:
        raise BundleError(
            f"{storage.redact(uri)} holds a student, which labels images but has no DDPM; give a bundle that "
            "jobs.pretrain, jobs.convert or jobs.train wrote"
        )
    try:
        header = _header_from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{storage.redact(uri)}/bundle.json: {type(error).__name__}: {error}") from error
    needed = [network_file(header.network), *([NOISE] if header.network.timesteps else [])]
    refuse_missing_files(uri, header.files, needed)
    return header


def load_bundle(name_or_uri: str, model_id: str | None = None) -> Bundle:
    """The bundle with its tensors, each file checked against its sha256.

    Raises BundleError; ModelChangedError where it is another than `model_id`, or is replaced while it is read.
    """
    return bundle_of(*read_content(name_or_uri), model_id)


def bundle_of(uri: str, content: dict[str, Any], model_id: str | None) -> Bundle:
    """`load_bundle` of the bundle at `uri` whose bundle.json is `content`."""
    header = header_of(uri, content)
    refuse_another_model(uri, header.model_id, model_id)
    tensors = load_files(uri, content, header.files)
    ensemble = tensors.get(ENSEMBLE, {})
    members = tuple(_with_prefix(ensemble, f"member_{i}.") for i in range(header.num_members))
    if sum(map(len, members)) != len(ensemble):
        raise BundleError(f"{storage.redact(uri)} holds other members than the {header.num_members} of bundle.json")
    try:
        return Bundle(
            network=header.network,
            weights=tensors[network_file(header.network)],
            noise=tensors[NOISE]["noise"] if NOISE in tensors else None,
            features=header.features,
            members=members,
            task=header.task,
            provenance=header.provenance,
        )
    except ModuleNotFoundError as error:
        raise BundleError(f"{storage.redact(uri)}: {error}") from error
    except (KeyError, ValueError) as error:
        raise BundleError(f"{storage.redact(uri)} contradicts itself: {error}") from error


def header_to_json(header: BundleHeader) -> dict[str, Any]:
    """The content of `bundle.json`."""
    return {
        "schema_version": schema_version(header.network),
        **network_to_json(header.network),
        "features": dataclasses.asdict(header.features) if header.features else None,
        "task": header.task.to_dict() if header.task else None,
        "input_size": header.network.image_size,
        "num_members": header.num_members,
        "files": dict(header.files),
        "provenance": dict(header.provenance),
    }


def _header_from_json(content: dict[str, Any]) -> BundleHeader:
    return BundleHeader(
        network=network_from_json(content),
        features=FeatureConfig(**with_tuples(content["features"])) if content["features"] else None,
        task=Task.from_dict(content["task"]) if content["task"] else None,
        num_members=content["num_members"],
        files=content["files"],
        provenance=content["provenance"],
    )


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
