"""The published LSUN network with ten members, in its own process: what it costs in memory.

    python -m tests.model.published_size save FOLDER float16
    python -m tests.model.published_size segment FOLDER

Both print their peak resident memory in bytes and the seconds they took.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

UNET_PARAMETERS = 552.8e6


def save(folder: str, dtype_name: str) -> None:
    """Writes a bundle of random weights, the network's stored in that type."""
    import torch

    from ddpm_seg.model.bundle import Bundle, save_bundle, unet_shapes
    from ddpm_seg.model.diffusion import DiffusionConfig
    from ddpm_seg.model.ensemble import member_shapes
    from ddpm_seg.model.features import FeatureConfig
    from ddpm_seg.model.unet import UNetConfig
    from ddpm_seg.tasks import TASKS

    config = UNetConfig(
        image_size=256, num_channels=256, num_res_blocks=2, channel_mult=(1, 1, 2, 2, 4, 4),
        attention_resolutions=(32, 16, 8), num_head_channels=64, resblock_updown=True, learn_sigma=True,
    )  # fmt: skip
    features = FeatureConfig(steps=(50, 150, 250), blocks=(5, 6, 7, 8, 12))
    shapes, dtype = unet_shapes(config), getattr(torch, dtype_name)
    assert abs(sum(torch.Size(shape).numel() for shape in shapes.values()) - UNET_PARAMETERS) < 1e5
    task, dim = TASKS["ffhq_34"], sum(features.channels(config))
    generator = torch.Generator().manual_seed(0)

    def random(key: str, shape: tuple[int, ...]) -> torch.Tensor:
        if not shape:
            return torch.tensor(0)
        if key.endswith("running_var"):
            return torch.ones(shape)
        return torch.randn(shape, generator=generator) / torch.Size(shape[1:]).numel() ** 0.5

    bundle = Bundle(
        unet=config,
        diffusion=DiffusionConfig(),
        unet_weights={key: random(key, shape).to(dtype) for key, shape in shapes.items()},
        noise=torch.randn(1, 3, 256, 256, generator=generator),
        features=features,
        members=tuple(
            {key: random(key, shape) for key, shape in member_shapes(task.num_classes, dim).items()} for _ in range(10)
        ),
        task=task,
    )
    save_bundle(bundle, folder)


def segment(folder: str) -> None:
    """Labels one image, as a notebook would."""
    import numpy as np

    from ddpm_seg.notebook import load

    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    result = load(folder, device="cpu")(image)
    assert result.mask.shape == (256, 256)
    assert np.isfinite(result.uncertainty)


def peak_resident_bytes() -> int:
    """Of this program alone; `getrusage` would begin with the parent's."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


if __name__ == "__main__":
    started = time.perf_counter()
    if sys.argv[1] == "save":
        save(*sys.argv[2:])
    else:
        segment(*sys.argv[2:])
    print(peak_resident_bytes(), round(time.perf_counter() - started))
