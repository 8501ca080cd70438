"""Measures where a model's time goes, and how close each part is to the machine's limit."""

# Shapes: N images of S x S pixels.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from ddpm_seg.benchmark import transcription
from ddpm_seg.benchmark.measure import PeakMemory, in_turn, peak_flops, ratio
from ddpm_seg.benchmark.profile import Operation, profiled
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.bundle.network_json import require_ddpm
from ddpm_seg.model.device.dtypes import DType
from ddpm_seg.model.networks.diffusion.ddpm_extractor import DDPMExtractor
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.model.segmenter import Segmenter

SEGMENTATION, REFERENCE = "segmentation", "published algorithm"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Cost of one part of the work, per image."""

    seconds: float
    """Median over the rounds."""
    flops: float
    """Number of operations in its matrix products and convolutions, including those on 8-bit integers."""
    share_of_limit: float
    """Its speed divided by that of a large matrix product or convolution in the same run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Comparison of our model with the plain transcription, measured in turn."""

    speedup: float
    """How many times longer the transcription takes."""
    equal_pixels: float
    """Share of pixels with the same label."""
    memory_bytes: int
    """Memory that the transcription needs in addition to the weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelBenchmark:
    """What one number format of the activations costs on this device."""

    dtype: DType
    batch_size: int
    """Images at a time."""
    peak_flops: float
    """Operations per second of a large product or convolution in that format, or in float32 if that is faster."""
    parts: dict[str, Part]
    """By name: the UNet up to the last block that is read, at all timesteps; the head; both together; and one complete
    evaluation of the UNet, as in sampling."""
    memory_bytes: int
    """Peak memory for segmenting one image, in addition to the weights."""
    rounds: dict[str, list[float]] = field(repr=False)
    """Seconds per image for each part in each round."""
    comparison: Comparison | None
    operations: list[Operation] | None
    """Those that take most of the segmentation's time, if asked for."""
    labels: NDArray[np.uint8] = field(repr=False)
    """(N, S, S) uint8 masks of the images."""

    @property
    def images_per_hour(self) -> float:
        return 3600 / self.parts[SEGMENTATION].seconds


def benchmark_model(
    bundle: Bundle,
    images: NDArray[np.uint8],
    *,
    dtype: DType,
    device: torch.device,
    rounds: int,
    reference: bool,
    compile: bool = False,
    profile: bool = False,
) -> ModelBenchmark:
    """Measures `bundle` on `images` (N, S, S, 3) uint8, as many at once as memory allows.

    `reference` adds the plain transcription, on the same device, in float32 and for one image; `profile` the
    operations' times. Raises ValueError for a bundle without an ensemble or a DDPM, and for `reference` if the network
    is not guided-diffusion's.
    """
    unet = require_ddpm(bundle.network).unet
    if reference and not isinstance(unet, UNetConfig):
        raise ValueError("--reference works with guided-diffusion's UNet only, not with diffusers': leave it out")
    segmenter = Segmenter(bundle, device=str(device), dtype=dtype, compile=compile)
    images = images[: max(1, segmenter.batch.size // segmenter.features.passes)]
    with PeakMemory(device) as memory:
        segmenter.segment(images[:1])
    works, n = _works(segmenter, images), len(images)
    flops = {name: _flops(work) / n for name, work in works.items()}
    # A processor without instructions for a format computes in float32.
    works["limit"] = lambda: max(peak_flops(device, kind) for kind in {torch.float32, getattr(torch, dtype)})
    if reference:
        plain = transcription.on_device(bundle, device)
        works[REFERENCE] = lambda: _transcribed(plain, images[0], device)
    seconds, results = in_turn(works, rounds, device)
    limit = results["limit"]
    for name in flops:
        seconds[name] = [taken / n for taken in seconds[name]]
    return ModelBenchmark(
        dtype=dtype,
        batch_size=n,
        peak_flops=limit,
        parts={name: _part(flops[name], median(seconds[name]), limit) for name in flops},
        memory_bytes=memory.bytes,
        rounds=seconds,
        comparison=_compared(results, seconds) if reference else None,
        operations=profiled(works[SEGMENTATION], device) if profile else None,
        labels=np.stack([found.label for found in results[SEGMENTATION]]),
    )


def _part(flops: float, seconds: float, limit: float) -> Part:
    return Part(seconds=seconds, flops=flops, share_of_limit=flops / seconds / limit)


def _works(segmenter: Segmenter, images: NDArray[np.uint8]) -> dict[str, Callable[[], object]]:
    """The parts to measure, by name; each works on all images."""
    extractor = segmenter.extractor
    assert isinstance(extractor, DDPMExtractor)  # benchmark_model
    x_0 = to_network(images, segmenter.device)
    size = (segmenter.image_size, segmenter.image_size)
    features = torch.inference_mode()(lambda: extractor(images, segmenter.features, micro_batch=segmenter.batch.size))
    maps, t_N = features(), torch.full((len(images),), segmenter.features.steps[0], device=segmenter.device)
    return {
        "UNet, to the last block read": features,
        "head": lambda: list(segmenter.ensemble(maps, size)),
        SEGMENTATION: lambda: segmenter.segment(images),
        "UNet, one evaluation in sampling": torch.inference_mode()(lambda: extractor.unet(x_0, t_N)),
    }


def _flops(work: Callable[[], object]) -> float:
    """The number of operations of `work`, counted in one call, which also warms it up."""
    others = {
        torch.ops.onednn.qconv2d_pointwise: _int8_conv_flops,
        torch.ops.aten._nnpack_spatial_convolution: _winograd_flops,
    }
    with FlopCounterMode(display=False, custom_mapping=others) as counter:
        work()
    return counter.get_total_flops()


def _int8_conv_flops(
    x_shape: torch.Size, scale: float, zero: int, weight_shape: torch.Size, *_: object, out_shape: torch.Size
) -> int:
    """Operations of one 8-bit convolution; torch's counter passes the operator's arguments."""
    return conv_flop_count(list(x_shape), list(weight_shape), list(out_shape))


def _winograd_flops(x_shape: torch.Size, weight_shape: torch.Size, *_: object, out_shape: torch.Size) -> int:
    """Operations of the ordinary convolution that Winograd's replaces, so that its share of the limit is comparable."""
    return conv_flop_count(list(x_shape), list(weight_shape), list(out_shape))


@torch.inference_mode()
def _transcribed(bundle: Bundle, image: NDArray[np.uint8], device: torch.device) -> tuple[NDArray[np.uint8], int]:
    """Labels (S, S) by the transcription, and the bytes of memory that it needed in addition to the weights."""
    with PeakMemory(device) as memory:
        label_P = transcription.segment(bundle, to_network(image[None], device))
    return label_P.view(image.shape[:2]).numpy(), memory.bytes


def _compared(results: Mapping[str, Any], seconds: Mapping[str, list[float]]) -> Comparison:
    label, memory_bytes = results[REFERENCE]
    return Comparison(
        speedup=ratio(seconds[REFERENCE], seconds[SEGMENTATION]),
        equal_pixels=float((label == results[SEGMENTATION][0].label).mean()),
        memory_bytes=memory_bytes,
    )
