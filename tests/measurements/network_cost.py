"""What one image costs in a network of published size (random weights): CPU seconds, and memory beyond the weights.

    python -m tests.measurements.network_cost vdvae-ffhq256

One network a process, one CPU thread: the peak is the whole process's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.dtypes import FloatDType
from ddpm_seg.model.network import Network
from ddpm_seg.model.networks.alae import ALAEConfig
from ddpm_seg.model.networks.style.gan_encoder import GANEncoderConfig
from ddpm_seg.model.networks.style.gan_inversion import GANInversionConfig
from ddpm_seg.model.networks.style.stylegan2 import StyleGAN2Config
from ddpm_seg.model.networks.vdvae import VDVAEConfig
from ddpm_seg.model.resident import resident_drawer, resident_extractor
from ddpm_seg.model.samples.sampling import SamplingConfig
from tests.memory import held_memory, peak_memory

CONFIG_F = (*[512] * 5, 256, 128, 64, 32)
"""Channels of StyleGAN2's config-f up to 1024 x 1024."""

NETWORKS: dict[str, Network] = {
    "vdvae-ffhq256": VDVAEConfig(
        image_size=256,
        width=512,
        inner_width=128,
        zdim=16,
        enc_blocks="256x3,256d2,128x8,128d2,64x12,64d2,32x17,32d2,16x7,16d2,8x5,8d2,4x5,4d4,1x4",
        dec_blocks="1x2,4m1,4x3,8m4,8x4,16m8,16x9,32m16,32x21,64m32,64x13,128m64,128x7,256m128",
        no_bias_above=64,
        shift=-112.8666757481,
        deviation=69.84780273,
    ),
    "alae-ffhq1024": ALAEConfig(image_size=256, widths=(16, 32, 64, 128, 256, *[512] * 5)),
    "alae-bedroom256": ALAEConfig(image_size=256, widths=(32, 64, 128, 256, *[512] * 4)),
    "gan-encoder": GANEncoderConfig(image_size=256, width=64),
    "gan-inversion-ffhq1024": GANInversionConfig(image_size=256, codes="e4e", width=64, channels=CONFIG_F),
    "stylegan2-256": StyleGAN2Config(image_size=256, channels=CONFIG_F[:7], mapping=(512,) * 9),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = NETWORKS[arguments.network]
    run = work(Bundle(network=network, weights=network.build().state_dict()), arguments.dtype)
    before = held_memory()
    started = time.process_time()
    with torch.inference_mode():
        maps = run()
    seconds = time.process_time() - started
    peak = peak_memory()
    print(f"{arguments.network}, {arguments.dtype}: {seconds:.1f} s of CPU")
    print(f"peak: {(peak - before) / 1e9:.2f} GB beyond the weights")
    print(f"read: {sum(one.shape[1] for one in maps)} channels, {sum(one.nbytes for one in maps) / 1e6:.0f} MB")


def work(bundle: Bundle, dtype: FloatDType) -> Callable[[], list[Tensor]]:
    """Reads the maps of one image, or of one that the network draws."""
    network, features = bundle.network, bundle.network.published_features()
    if network.reads_images:
        extract = resident_extractor(bundle, "cpu", dtype)
        size = network.image_size
        image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
        return lambda: extract(image, features)
    drawer = resident_drawer(bundle, SamplingConfig(), "cpu", dtype)
    return lambda: next(drawer.draw(0, [0], features)).maps or []


if __name__ == "__main__":
    main()
