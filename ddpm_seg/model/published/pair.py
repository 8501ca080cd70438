"""Joins the networks of two bundles into one bundle."""

from __future__ import annotations

from typing import Any

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, open_bundle
from ddpm_seg.model.networks.pair import PairConfig, Part, joined_weights
from ddpm_seg.model.published.state_dicts import base_name


def load_pair(first: str, second: str) -> Bundle:
    """The networks of two bundles as one, without an ensemble; their own ensembles say only what is read.

    Raises BundleError for a bundle that cannot be read, for a student, a pair, and a network that only draws.
    """
    parts: list[Part] = []
    bundles: list[Bundle] = []
    provenance: list[dict[str, Any]] = []
    for uri in (first, second):
        header, bundle = open_bundle(uri)
        if isinstance(bundle.network, PairConfig):
            raise ValueError(f"{storage.redact(uri)} holds a pair already; give two bundles with one network each")
        features = bundle.features or bundle.network.published_features()
        parts.append(Part(network=bundle.network, features=features))
        bundles.append(bundle)
        provenance.append(
            {"bundle": base_name(uri), "model_id": header.model_id, "provenance": dict(bundle.provenance)}
        )
    return Bundle(
        network=PairConfig(parts=(parts[0], parts[1])),
        weights=joined_weights([one.weights for one in bundles], [one.noise for one in bundles]),
        provenance={"converted": {"pair": provenance}},
    )
