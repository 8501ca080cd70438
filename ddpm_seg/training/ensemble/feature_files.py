"""Files of activations, one per image: written by actors on any node, and reused by a resumed training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.data.sample_names import SampleName
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, network_digest
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.training.ensemble.sources import Source, feature_reader


class FeatureExtractor:
    """The network of a bundle, loaded once, to write activations to files."""

    def __init__(self, bundle: Bundle, features: FeatureConfig, device: str) -> None:
        self.features, self.read = features, feature_reader(bundle, features.truncation, device)

    @torch.inference_mode()
    def write(self, source: Source, uri: str) -> None:
        """Writes the activation maps of an image or a sample, each (h, w, C) at its own resolution."""
        maps = self.read(source, self.features)
        tensors = {str(index): _half(map_NCHW[0].permute(1, 2, 0)) for index, map_NCHW in enumerate(maps)}
        storage.write_bytes(uri, safetensors.torch.save(tensors))


def feature_uris(bundle: Bundle, sources: Sequence[Source], features: FeatureConfig, folder: str) -> list[str]:
    """The file below `folder` for each source's activations, named by a hash of everything that they depend on."""
    common = hashlib.sha256(repr((network_digest(bundle), features)).encode())
    uris = []
    for source in sources:
        named = common.copy()
        if isinstance(source, SampleName):
            named.update(repr((source, features.truncation)).encode())
        else:
            named.update(np.ascontiguousarray(source).data)
        uris.append(storage.join(folder, f"{named.hexdigest()[:32]}.safetensors"))
    return uris


def read_features(uri: str) -> list[Tensor]:
    """The maps that `FeatureExtractor.write` wrote, (1, C, h, w) each. Raises OSError if the file is damaged."""
    try:
        tensors = safetensors.torch.load(storage.read_bytes(uri))
    except safetensors.SafetensorError as error:
        raise OSError(f"{uri} is damaged ({error}); delete it, and the next run makes it again") from error
    return [tensors[str(index)].permute(2, 0, 1)[None] for index in range(len(tensors))]


def _half(map_HWC: Tensor) -> Tensor:
    """Moves a map to the CPU as float16, or as float32 in the rare case that it exceeds float16's range."""
    fits = map_HWC.abs().max() <= torch.finfo(torch.float16).max
    return map_HWC.to("cpu", torch.float16 if fits else torch.float32).contiguous()
