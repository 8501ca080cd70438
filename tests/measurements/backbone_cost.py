"""What networks of timm, transformers and diffusers cost at real sizes, and which number formats they run in.

python -m tests.measurements.backbone_cost count      # TFLOP and memory, counted on the meta device
python -m tests.measurements.backbone_cost time       # one image through a ViT-B, random weights, one CPU thread
python -m tests.measurements.backbone_cost formats    # bfloat16, int8 and --compile on small random networks
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.peak import peak_values
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.networks.diffusion.latent import LatentDiffusionConfig
from ddpm_seg.model.networks.timm_network import TimmBackbone, TimmConfig, create
from ddpm_seg.model.published.convert import ConvertConfig, convert
from ddpm_seg.model.resident import resident_extractor
from tests.model.published import tiny_backbones, tiny_diffusers

TIMM = (
    *[(f"vit_{size}_patch16_dinov3", 512) for size in ("small", "base", "large", "7b")],
    ("vit_base_patch16_dinov3", 448),
    ("vit_base_patch14_reg4_dinov2", 518),
)
WIDTHS = [320, 640, 1280, 1280]
XL: dict[str, Any] = {
    "block_out_channels": WIDTHS[:3],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
LATENT: dict[str, tuple[dict[str, Any], int]] = {
    "Stable Diffusion 1.5": ({"block_out_channels": WIDTHS, "cross_attention_dim": 768, "attention_head_dim": 8}, 512),
    "Stable Diffusion 2.1": (
        {
            "block_out_channels": WIDTHS,
            "cross_attention_dim": 1024,
            "attention_head_dim": [5, 10, 20, 20],
            "use_linear_projection": True,
        },
        768,
    ),
    "Stable Diffusion XL": (XL, 1024),
}
AUTOENCODER: dict[str, Any] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
FOLDERS: dict[str, tuple[str, Callable[[Path], str]]] = {
    **{name: ("timm", lambda path, name=name: tiny_backbones.timm_folder(path, name)) for name in tiny_backbones.TIMM},
    **{
        name: ("transformers", lambda path, name=name: tiny_backbones.transformers_folder(path, name))
        for name in tiny_backbones.TRANSFORMERS
    },
    "Stable Diffusion": ("diffusers", tiny_diffusers.stable_diffusion),
    "Stable Diffusion XL": ("diffusers", tiny_diffusers.stable_diffusion_xl),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["count", "time", "formats"])
    parser.add_argument("names", nargs="*", choices=[[], *FOLDERS], help="of formats: default, all")
    options = parser.parse_args()
    if options.what == "formats":
        formats(options.names or list(FOLDERS))
    else:
        {"count": count, "time": time_one}[options.what]()


def count() -> None:
    for name, side in TIMM:
        with torch.device("meta"):
            backbone = TimmBackbone(create(name, {}, num_classes=0)).eval()
            backbone.set_input_size(side)

        def run(backbone: TimmBackbone = backbone, side: int = side) -> object:
            return backbone.activations(torch.zeros(1, 3, side, side), range(backbone.depth))

        report(f"{name}, {side}", teraflops(run), 4 * peak_values(run))
    for name, (unet, side) in LATENT.items():
        config = LatentDiffusionConfig(
            unet=unet, vae=AUTOENCODER, image_size=side, prompt_tokens=77, diffusion=DiffusionConfig()
        )
        with torch.device("meta"):
            network = config.build().eval()
            image, latents = torch.zeros(1, 3, side, side), torch.zeros(config.noise_shape)
        blocks = config.published_features().blocks

        def step(network: Any = network, latents: Any = latents, blocks: Any = blocks) -> object:
            return network.activations(latents, torch.zeros(1, dtype=torch.int64), blocks)

        encode = teraflops(lambda network=network, image=image: network.encode(image))  # type: ignore[misc]
        report(f"{name}, {side}: autoencoder {encode:.2f}, each step", teraflops(step), 4 * config.peak_values)


def report(what: str, tflop: float, peak: int) -> None:
    print(f"{what} {tflop:.2f} TFLOP; {peak / 1e6:.0f} MB in float32", flush=True)


@torch.no_grad()
def teraflops(run: Callable[[], object]) -> float:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e12


def time_one() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = TimmConfig(
        name="vit_base_patch16_dinov3",
        arguments={},
        image_size=448,
        mean=(0.5,) * 3,
        deviation=(0.2,) * 3,
        block_channels=(768,) * 12,
        block_sides=(28,) * 12,
    )
    extract = resident_extractor(Bundle(network=network, weights=network.build().state_dict()), "cpu")
    image = np.zeros((1, 448, 448, 3), np.uint8)
    seconds = []
    for _ in range(4):
        start = time.process_time()
        extract(image, network.published_features())
        seconds.append(time.process_time() - start)
    print(f"ViT-B, 448: {min(seconds[1:]):.1f} s of one CPU thread, the fastest of three")


def formats(names: list[str]) -> None:
    """Largest difference from float32 as a share of the scale, or why a format is refused. A warning says where
    compiling failed."""
    logging.basicConfig()
    for name in names:
        flag, write = FOLDERS[name]
        with tempfile.TemporaryDirectory() as folder:
            bundle = convert(ConvertConfig(**{flag: write(Path(folder) / "it")}, output=""))
        size = bundle.network.image_size
        images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
        features = bundle.network.published_features()
        plain = resident_extractor(bundle, "cpu")(images, features)
        said = []
        ways: dict[str, dict[str, Any]] = {
            "bfloat16": {"dtype": "bfloat16"},
            "int8": {"dtype": "int8"},
            "--compile": {"compile": True},
        }
        for way, arguments in ways.items():
            try:
                other = resident_extractor(bundle, "cpu", **arguments)(images, features)
            except ValueError as error:
                said.append(f"{way} refused ({error})")
                continue
            off = max(float((a - b.float()).abs().max() / a.abs().max()) for a, b in zip(plain, other, strict=True))
            said.append(f"{way} {off:.3%}")
        print(f"{flag} {name}: {', '.join(said)}", flush=True)


if __name__ == "__main__":
    main()
