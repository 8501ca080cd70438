"""Measures what sampling, training and feature extraction gain from the UNet that labelling uses.

    python -m tests.measurements.unet_gains --model avatars-10

Each beside a plain transcription of the published network (`ddpm_seg.benchmark.transcription`), in turn, in float32:
one evaluation as every sampling step makes it, one iteration's forward and backward pass on a DDPM's loss, and the
activations of annotated images at the bundle's own steps and blocks.
"""

# Shapes: N images of S x S pixels.

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.benchmark import transcription
from ddpm_seg.benchmark.measure import in_turn, ratio
from ddpm_seg.benchmark.run import pictures
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.training.network.denoising import Denoising
from ddpm_seg.training.network.network_training import draw_images
from ddpm_seg.training.optimization import Optimization

CPU = torch.device("cpu")
Pair = tuple[Callable[[], object], Callable[[], object]]
"""Ours, and the transcription's."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="avatars-10")
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    bundle = load_bundle(options.model)
    images = pictures(bundle)[: options.batch_size]
    pairs = {
        "a sampling step": sampling(bundle, images),
        "an iteration of pretraining": pretraining(bundle, images),
        "features to train on": extraction(bundle, images),
    }
    for name, (ours, plain) in pairs.items():
        ours(), plain()  # warm up
        seconds, _ = in_turn({"ours": ours, "plain": plain}, options.rounds, CPU)
        taken = ", ".join(f"{who} {median(values) / len(images):.4f} s an image" for who, values in seconds.items())
        print(f"{name}: {ratio(seconds['plain'], seconds['ours']):.2f} times as fast ({taken})")


def sampling(bundle: Bundle, images: np.ndarray) -> Pair:
    unet, weights = resident_extractor(bundle, CPU).unet, _floats(bundle)
    x_t, t_N = to_network(images, CPU), torch.full((len(images),), 50)
    no_grad = torch.inference_mode()
    return no_grad(lambda: unet(x_t, t_N)), no_grad(lambda: transcription.unet(_config(bundle), weights, x_t, t_N)[1])


def pretraining(bundle: Bundle, images: np.ndarray) -> Pair:
    """The loss and its gradients; the optimiser's step is the same for both."""
    config, objective = _config(bundle), Denoising(_config(bundle), bundle.ddpm.diffusion)
    network = objective.build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = {key: value.requires_grad_() for key, value in _floats(bundle).items()}
    batch = objective.draw(*draw_images(images, Optimization(batch_size=len(images)), 0))

    def plain(x_t: Tensor, t_N: Tensor) -> Tensor:
        return transcription.unet(config, weights, x_t, t_N)[1]

    return (
        lambda: objective.loss(network, *batch).backward(),
        lambda: objective.loss(plain, *batch).backward(),
    )


def extraction(bundle: Bundle, images: np.ndarray) -> Pair:
    """The published code takes one image and one step at a time, through the whole network."""
    assert bundle.features is not None
    assert bundle.noise is not None
    extractor, weights, features, noise = (
        resident_extractor(bundle, CPU),
        _floats(bundle),
        bundle.features,
        bundle.noise,
    )
    bars = transcription.alpha_bars(bundle.ddpm.diffusion.noise_schedule, bundle.ddpm.diffusion.steps)

    def plain() -> None:
        for x_0 in to_network(images, CPU).split(1):
            for step in features.steps:
                x_t = transcription.q_sample(x_0, bars[step], noise)
                transcription.unet(_config(bundle), weights, x_t, torch.tensor([step]))

    no_grad = torch.inference_mode()
    return no_grad(lambda: extractor(images, features)), no_grad(plain)


def _floats(bundle: Bundle) -> dict[str, Tensor]:
    return {key: value.float() for key, value in bundle.weights.items()}


def _config(bundle: Bundle) -> UNetConfig:
    config = bundle.ddpm.unet
    assert isinstance(config, UNetConfig)  # the transcription is of guided-diffusion's
    return config


if __name__ == "__main__":
    main()
