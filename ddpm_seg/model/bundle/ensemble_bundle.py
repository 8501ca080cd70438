"""Bundles of a network and its ensemble on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.fits import recorded_fit
from ddpm_seg.model.bundle import stored_bundle
from ddpm_seg.model.bundle.calibration import CALIBRATION, Calibration, read_calibration
from ddpm_seg.model.bundle.domain import DOMAIN, encode_domain, has_domain, read_domain
from ddpm_seg.model.bundle.files import check_input_size, model_id_of, read_content, read_files
from ddpm_seg.model.bundle.network_json import network_from_json, require_ddpm
from ddpm_seg.model.bundle.stored_bundle import load_tensors, write_bundle
from ddpm_seg.model.bundle.weight_files import check_shapes
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.ensemble import member_shapes
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.json_values import as_count, as_object, from_json
from ddpm_seg.model.limits import MAX_MEMBERS
from ddpm_seg.model.network import Network
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.shapes import shapes_of
from ddpm_seg.tasks import Task

ENSEMBLE, NOISE = "ensemble.safetensors", "noise.safetensors"
_MEMBER = "member_"


@dataclass(frozen=True, kw_only=True)
class BundleHeader:
    """The content of `bundle.json`: everything but the tensors."""

    network: Network
    features: FeatureConfig | None
    task: Task | None
    num_members: int
    files: Mapping[str, str]
    """sha256 of each weights file, by name."""
    provenance: Mapping[str, Any]
    calibration: Calibration | None = None
    has_domain: bool = False
    """No part of bundle.json and `model_id`."""

    @property
    def model_id(self) -> str:
        """16 hex digits, a hash of everything that can change an output: architecture, features, task and weights."""
        return model_id_of(self.to_json())

    @property
    def image_size(self) -> int:
        """Side of the network's square input."""
        return self.network.image_size

    def to_json(self) -> dict[str, Any]:
        """The content of `bundle.json`."""
        return {
            "schema_version": self.network.schema_version,
            **self.network.to_json(),
            "features": self.features.to_json() if self.features else None,
            "task": self.task.to_dict() if self.task else None,
            "input_size": self.image_size,
            "num_members": self.num_members,
            "files": dict(self.files),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> BundleHeader:
        """The header in `content`. Raises ValueError naming the key."""
        network = network_from_json(content)
        features, task = content.get("features"), content.get("task")
        header = cls(
            network=network,
            features=None if features is None else from_json(FeatureConfig, features, "features"),
            task=None if task is None else Task.from_dict(as_object(task, "task")),
            num_members=as_count(content.get("num_members"), "num_members", MAX_MEMBERS),
            files=read_files(content, _needed_files(network, content["num_members"])),
            provenance=as_object(content.get("provenance"), "provenance"),
        )
        check_input_size(content, header.image_size)
        recorded_fit(header.provenance)
        if header.num_members and (header.features is None or header.task is None):
            raise ValueError("it has an ensemble (num_members) but no features or no task")
        if header.features is not None:
            header.features.check(network)
        return header

    def tensor_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Shape of every tensor, by file and name. Raises BundleError for a network that cannot be built."""
        shapes = {network_file(self.network): weight_shapes(self.network)}
        if self.network.noise_shape:
            shapes[NOISE] = {"noise": self.network.noise_shape}
        if self.num_members and self.features and self.task:
            member = member_shapes(self.task.num_classes, sum(self.features.channels(self.network)))
            numbers = range(self.num_members)
            shapes[ENSEMBLE] = {
                f"{_MEMBER}{number}.{key}": shape for number in numbers for key, shape in member.items()
            }
        return shapes


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model in memory; without `members` it is a network that has no ensemble yet."""

    network: Network
    weights: Mapping[str, Tensor]
    """The network's state dict; a DDPM's has the published keys."""
    noise: Tensor | None = None
    """Noise shared by all images, float32 of the network's `noise_shape` (DDPM-Seg's `share_noise`)."""
    features: FeatureConfig | None = None
    members: tuple[Mapping[str, Tensor], ...] = ()
    task: Task | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    domain: Tensor | None = None
    """(N, D) float32: what the training images look like to the network (see `model.domain`), if that was kept."""

    def __post_init__(self) -> None:
        expected_noise = self.network.noise_shape
        found = None if self.noise is None else tuple(self.noise.shape)
        if found != expected_noise:
            raise BundleError(f"noise must be {expected_noise}, got {found}")
        check_shapes(self.network.kind, shapes_of(self.weights), weight_shapes(self.network))
        if not self.members:
            return
        if self.features is None or self.task is None:
            raise BundleError("a bundle with an ensemble needs its features and its task")
        self.features.check(self.network)
        expected = member_shapes(self.task.num_classes, sum(self.features.channels(self.network)))
        for index, member in enumerate(self.members):
            check_shapes(f"ensemble member {index}", shapes_of(member), expected)

    @property
    def ddpm(self) -> DDPMConfig:
        """The network as a DDPM. Raises BundleError if it is another kind."""
        return require_ddpm(self.network)


def network_file(network: Network) -> str:
    """Name of the file with the network's weights."""
    return f"{network.kind}.safetensors"


def network_digest(bundle: Bundle) -> str:
    """64 hex digits, a hash of the network that features come from: its configuration, weights and noise."""
    config = list(bundle.network.to_json().values())
    sha256 = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    noise = () if bundle.noise is None else (bundle.noise,)
    for tensor in (*noise, *(bundle.weights[key] for key in sorted(bundle.weights))):
        sha256.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def save_bundle(bundle: Bundle, uri: str) -> BundleHeader:
    """Writes `bundle` under `uri`. Raises FileExistsError if another bundle exists there; an equal one is left
    alone."""
    ensemble = {
        f"{_MEMBER}{i}.{key}": value for i, member in enumerate(bundle.members) for key, value in member.items()
    }
    tensors = {network_file(bundle.network): bundle.weights}
    tensors |= {NOISE: {"noise": bundle.noise}} if bundle.noise is not None else {}
    tensors |= {ENSEMBLE: ensemble} if ensemble else {}

    def describe(files: Mapping[str, str]) -> BundleHeader:
        return BundleHeader(
            network=bundle.network,
            features=bundle.features,
            task=bundle.task,
            num_members=len(bundle.members),
            files=files,
            provenance=bundle.provenance,
            calibration=bundle.calibration,
            has_domain=bundle.domain is not None,
        )

    beside = {CALIBRATION: bundle.calibration.encoded()} if bundle.calibration else {}
    beside |= {DOMAIN: encode_domain(bundle.domain)} if bundle.domain is not None else {}
    return write_bundle(uri, tensors, describe, beside)


def read_header(name_or_uri: str) -> BundleHeader:
    """The bundle's description, without its tensors. Raises BundleError naming what is wrong and where."""
    return header_of(*read_content(name_or_uri))


def header_of(uri: str, content: dict[str, Any]) -> BundleHeader:
    """Like `read_header`, for the bundle at `uri` with this `content` of bundle.json."""
    if "student" in content:
        raise BundleError(
            f"{storage.redact(uri)} holds a student, which labels images but has no DDPM; give a bundle that "
            "ddpm-seg pretrain, ddpm-seg convert or ddpm-seg train wrote"
        )
    header = stored_bundle.header_of(BundleHeader, uri, content)
    return replace(header, calibration=read_calibration(uri, header.task), has_domain=has_domain(uri))


def load_bundle(name_or_uri: str, model_id: str | None = None) -> Bundle:
    """The bundle with its tensors, each file checked against its sha256.

    Raises BundleError; ModelChangedError if its id is not `model_id`, or if it is replaced while being read.
    """
    return bundle_of(*read_content(name_or_uri), model_id)[1]


def open_bundle(name_or_uri: str) -> tuple[BundleHeader, Bundle]:
    """The bundle and its description, reading bundle.json only once; otherwise like `load_bundle`."""
    return bundle_of(*read_content(name_or_uri), None)


def bundle_of(uri: str, content: dict[str, Any], model_id: str | None) -> tuple[BundleHeader, Bundle]:
    """Like `open_bundle`, for the bundle at `uri` with this `content` of bundle.json."""
    header = header_of(uri, content)
    tensors = load_tensors(uri, content, header, model_id)
    members: tuple[dict[str, Tensor], ...] = tuple({} for _ in range(header.num_members))
    for key, tensor in tensors.get(ENSEMBLE, {}).items():
        number, _, name = key.removeprefix(_MEMBER).partition(".")
        members[int(number)][name] = tensor
    bundle = Bundle(
        network=header.network,
        weights=tensors[network_file(header.network)],
        noise=tensors[NOISE]["noise"] if NOISE in tensors else None,
        features=header.features,
        members=members,
        task=header.task,
        provenance=header.provenance,
        calibration=header.calibration,
        domain=_domain(uri, header),
    )
    return header, bundle


def _domain(uri: str, header: BundleHeader) -> Tensor | None:
    if not header.has_domain or header.features is None:
        return None
    return read_domain(uri, sum(header.features.channels(header.network)))


def _needed_files(network: Network, num_members: int) -> list[str]:
    return [network_file(network), *([NOISE] if network.noise_shape else []), *([ENSEMBLE] if num_members else [])]
