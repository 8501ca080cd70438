"""Finds out which network a bundle.json describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.json_values import as_object, from_json, shown
from ddpm_seg.model.network import Network
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.known import NETWORKS
from ddpm_seg.model.networks.pair import PairConfig, Part

STUDENT = "student"
PAIR = PairConfig.kind


def network_from_json(content: Mapping[str, Any]) -> Network:
    """The network that `bundle.json` describes. Raises ValueError naming the key."""
    section = network_section(content)
    if section == STUDENT:
        raise ValueError("it describes a student, expected another network")
    if section == PAIR:
        return _pair(content[PAIR])
    return next(network for network in NETWORKS if section in network.sections()).from_json(content)


def network_section(content: Mapping[str, Any]) -> str:
    """The only section of `bundle.json` that describes a network. Raises ValueError for several, or none."""
    known = [*(section for network in NETWORKS for section in network.sections()), PAIR, STUDENT]
    names = [name for name in known if name in content]
    if not names:
        raise ValueError(f"it describes no network that this version of ddpm_seg knows; expected one of {known}")
    if len(names) > 1:
        raise ValueError(f"it describes {' and '.join(names)}; expected one of {known}")
    return names[0]


def _pair(content: object) -> PairConfig:
    """Raises ValueError naming the key; a part is no pair itself."""
    if not isinstance(content, list) or len(content) != 2:
        raise ValueError(f"{PAIR} is {shown(content)}, expected a list of two networks")
    parts = []
    for index, value in enumerate(content):
        name = f"{PAIR}[{index}]"
        part = as_object(value, name)
        if network_section(part) == PAIR:
            raise ValueError(f"{name} is a pair itself, expected one network")
        features = from_json(FeatureConfig, part.get("features"), f"{name}.features")
        parts.append(Part(network=network_from_json(part), features=features))
    return PairConfig(parts=(parts[0], parts[1]))


def require_ddpm(network: Network) -> DDPMConfig:
    """`network` where it is a DDPM. Raises BundleError where it is another."""
    if not isinstance(network, DDPMConfig):
        raise BundleError(
            f"this needs a DDPM, and the bundle holds a {network.title}; give one that "
            "ddpm-seg pretrain or ddpm-seg convert --ddpm wrote, or that was trained on it"
        )
    return network
