"""What the training images look like to the network: a file beside a bundle's hashed ones, so that `model_id` stays."""

from __future__ import annotations

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.domain import LEAST_IMAGES, MAX_IMAGES
from ddpm_seg.model.errors import BundleError

DOMAIN = "domain.safetensors"

_NAME = "training_images"
_REMEDY = "train again, or delete it"


def encode_domain(training_ND: Tensor) -> bytes:
    """The file's content for training images described by `describe_maps`."""
    return safetensors.torch.save({_NAME: training_ND.float().cpu().contiguous()})


def has_domain(uri: str) -> bool:
    """Whether the bundle at `uri` says what it was trained on."""
    return storage.exists(storage.join(uri, DOMAIN))


def read_domain(uri: str, dimensions: int) -> Tensor:
    """(N, D) float32 with D = `dimensions`. Raises BundleError for a file that is damaged or another network's."""
    file = storage.join(uri, DOMAIN)
    try:
        data = storage.read_bytes(file, max_bytes=MAX_IMAGES * dimensions * 4 + 10_000)
        training_ND = safetensors.torch.load(data)[_NAME]
    except (SafetensorError, KeyError, storage.FileTooLargeError) as error:
        raise BundleError(f"{storage.redact(file)} is damaged ({type(error).__name__}); {_REMEDY}") from error
    shape = tuple(training_ND.shape)
    if training_ND.dtype != torch.float32 or len(shape) != 2 or shape[1] != dimensions or shape[0] < LEAST_IMAGES:
        expected = f"float32 (images, {dimensions})"
        raise BundleError(f"{storage.redact(file)} holds {training_ND.dtype} {shape}, expected {expected}; {_REMEDY}")
    if not training_ND.isfinite().all():
        raise BundleError(f"{storage.redact(file)} has values that are not finite; {_REMEDY}")
    return training_ND
