"""A DDPM as a source of features: noises an image to a few steps, and reads the UNet's decoder at each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ddpm_seg.model.device.compiled import compiled
from ddpm_seg.model.device.dtypes import DType, activations
from ddpm_seg.model.device.meta import with_weights
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.json_values import as_object, from_json
from ddpm_seg.model.kernels.winograd import LEAST_CHANNELS, LEAST_SIDE, use_winograd, winograd_works
from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.diffusion.ddpm_extractor import DDPMExtractor
from ddpm_seg.model.networks.diffusion.ddpm_generator import Generator, default_batch_size
from ddpm_seg.model.networks.diffusion.diffusers_config import DiffusersUNetConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.networks.diffusion.unet_int8 import to_int8
from ddpm_seg.model.samples.sampling import SamplingConfig

# The published choice for 256 x 256 networks, among 1000 timesteps and 18 decoder blocks.
PUBLISHED_STEPS, PUBLISHED_TIMESTEPS = (50, 150, 250), 1000
PUBLISHED_BLOCKS, PUBLISHED_DEPTH = (5, 6, 7, 8, 12), 18

NOISE_OPTIONS = ("noise", "noise_generator", "noise_seed")
_DIFFUSERS = "diffusers_unet"


@dataclass(frozen=True, kw_only=True, slots=True)
class DDPMConfig:
    """The UNet's architecture, and the noise schedule that it was trained with."""

    kind: ClassVar[str] = "unet"
    reads_images: ClassVar[bool] = True
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = (
        Checkpoint(
            flag="ddpm",
            title="guided-diffusion",
            loader="guided_diffusion",
            landmarks={"time_embed.0.weight": None, "input_blocks.0.0.weight": None},
            options=("classifiers", "experiment", "model_flags", *NOISE_OPTIONS),
        ),
        Checkpoint(
            flag="diffusers",
            title="diffusers",
            loader="diffusers.folder",
            options=(*NOISE_OPTIONS, "prompt", "image_size"),
        ),
    )

    unet: UNetConfig | DiffusersUNetConfig
    diffusion: DiffusionConfig

    @classmethod
    def sections(cls) -> tuple[str, ...]:
        return (cls.kind, _DIFFUSERS)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DDPMConfig:
        diffusion = from_json(DiffusionConfig, content.get("diffusion"), "diffusion")
        if _DIFFUSERS in content:
            unet = DiffusersUNetConfig(architecture=as_object(content[_DIFFUSERS], _DIFFUSERS))
            return cls(unet=unet, diffusion=diffusion)
        return cls(unet=from_json(UNetConfig, content[cls.kind], cls.kind), diffusion=diffusion)

    def to_json(self) -> dict[str, Any]:
        diffusion = diffusion_to_json(self.diffusion)
        if isinstance(self.unet, DiffusersUNetConfig):
            return {_DIFFUSERS: dict(self.unet.architecture), "diffusion": diffusion}
        unet = asdict(self.unet)
        # 1 and 1.0 are the same multiplier and must not give two model ids.
        unet["channel_mult"] = [float(multiplier) for multiplier in unet["channel_mult"]]
        return {self.kind: unet, "diffusion": diffusion}

    @property
    def schema_version(self) -> int:
        return 2 if isinstance(self.unet, DiffusersUNetConfig) else 1

    @property
    def title(self) -> str:
        return "DDPM"

    @property
    def image_size(self) -> int:
        return self.unet.image_size

    @property
    def timesteps(self) -> int:
        return self.diffusion.steps

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (1, 3, self.image_size, self.image_size)

    @property
    def block_channels(self) -> list[int]:
        """Channels of each decoder block's output, deepest block first."""
        return self.unet.block_channels

    @property
    def block_sides(self) -> list[int]:
        return [self.image_size // stride for stride in self.unet.block_strides]

    @property
    def peak_values(self) -> int:
        """Values in memory at the peak: about eight feature maps of the first level."""
        return 8 * self.unet.base_channels * self.image_size**2

    def architecture(self) -> dict[str, Any]:
        return asdict(self.unet)

    def published_features(self) -> FeatureConfig:
        """The published steps and blocks, scaled to this schedule and depth."""
        depth = len(self.block_channels)
        return FeatureConfig(
            steps=tuple(step * self.timesteps // PUBLISHED_TIMESTEPS for step in PUBLISHED_STEPS),
            blocks=tuple(sorted({block * depth // PUBLISHED_DEPTH for block in PUBLISHED_BLOCKS})),
        )

    def build(self) -> nn.Module:
        return self.unet.build()

    def check_dtype(self, dtype: DType) -> None:
        if dtype == "int8" and not isinstance(self.unet, UNetConfig):
            raise ValueError("int8 works only for guided-diffusion's UNet; use float32, bfloat16 or float16 here")

    def extractor(self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime) -> DDPMExtractor:
        self.check_dtype(runtime.dtype)
        assert noise is not None  # `Bundle` has checked it
        unet: Any = with_weights(self, {key: value.float() for key, value in weights.items()})
        if runtime.dtype == "int8":
            to_int8(unet, runtime.device)
        if runtime.dtype != "float32":
            unet.cast_torso(activations(runtime.dtype))
        if self._large_maps(runtime) and winograd_works():
            use_winograd(unet)
        else:
            unet.to(runtime.device, memory_format=torch.channels_last)
        if runtime.compile:
            unet.decode = compiled(unet.decode)
        return DDPMExtractor(unet.eval().requires_grad_(False), self.diffusion, noise.to(runtime.device))

    def _large_maps(self, runtime: Runtime) -> bool:
        """Whether the network has maps that Winograd's convolution is for, and runs as that needs it."""
        if runtime.device.type != "cpu" or runtime.dtype != "float32" or runtime.compile:
            return False
        maps = zip(self.block_sides, self.block_channels, strict=True)
        return any(side >= LEAST_SIDE and channels >= LEAST_CHANNELS for side, channels in maps)

    def drawing(self, sampling: SamplingConfig) -> DDPMDrawing:
        sampling.refuse_all_but(DDPMDrawing.flags, self.title)
        return DDPMDrawing(network=self, sampling=sampling, timesteps=sampling.timesteps(self.diffusion))


@dataclass(frozen=True, kw_only=True, slots=True)
class DDPMDrawing:
    """How a DDPM draws: a sampler, and the timesteps at which it calls the network."""

    flags: ClassVar[tuple[str, ...]] = ("sampler", "steps", "eta")

    network: DDPMConfig
    sampling: SamplingConfig
    timesteps: list[int]
    """In ascending order."""

    @property
    def sampler(self) -> str:
        return self.sampling.sampler

    @property
    def steps(self) -> int:
        return self.sampling.steps

    def settings(self) -> dict[str, Any]:
        return {"sampler": self.sampling.sampler, "timesteps": self.timesteps, "eta": self.sampling.eta}

    def details(self) -> dict[str, Any]:
        return {"timesteps": self.timesteps}

    def lines(self) -> dict[str, str]:
        return {"timesteps": ", ".join(map(str, reversed(self.timesteps)))}

    def drawer(
        self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime, batch_size: int | None = None
    ) -> Generator:
        extractor = self.network.extractor(weights, noise, runtime)
        if batch_size is None:
            unet = self.network.unet
            batch_size = default_batch_size(unet.base_channels, unet.image_size, runtime.device)
        return Generator(extractor, self.sampling, batch_size=batch_size)


def diffusion_to_json(diffusion: DiffusionConfig) -> dict[str, Any]:
    """Leaves out fields that only diffusers' schedules use if they are not set, so that older models keep their ids."""
    values = asdict(diffusion)
    for name in ("betas", "predict_v"):
        if not values[name]:
            del values[name]
    return values
