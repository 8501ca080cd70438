"""What is converted to a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

from ddpm_seg import storage
from ddpm_seg.checks import flag
from ddpm_seg.model.published.names import LSUN_FFHQ_256, ModelType

Source = ModelType | Literal["diffusers"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertConfig:
    """One network (with --classifiers and --experiment for a segmentation model), or --modelscope alone."""

    output: str
    """Where the bundle goes: a folder, s3://bucket/prefix, …"""
    ddpm: str | None = None
    """guided-diffusion checkpoint: the .pt file of a state dict."""
    mae: str | None = None
    """Checkpoint of facebookresearch/mae: the .pth file of its pre-training."""
    swav: str | None = None
    """Checkpoint of facebookresearch/swav: the .pth file of a ResNet-50."""
    swav_w2: str | None = None
    """Checkpoint of facebookresearch/swav: the .pth file of a ResNet-50 twice as wide."""
    diffusers: str | None = None
    """Folder of a Hugging Face diffusers pipeline with a UNet2DModel, or the name of one on the hub."""
    classifiers: str | None = None
    """Folder of the ensemble: model_0.pth, model_1.pth, …"""
    experiment: str | None = None
    """ddpm-segmentation experiment file of these classifiers (experiments/*/ddpm.json, mae.json, …)."""
    model_flags: str = LSUN_FFHQ_256
    """MODEL_FLAGS that the --ddpm checkpoint was trained with, in one string."""
    noise: str | None = None
    """.npy file (1, 3, S, S) of the noise that the classifiers were trained with; without it, a generator makes it."""
    noise_generator: Literal["cpu", "cuda"] | None = None
    """Generator of the noise: cuda, as ddpm-segmentation trains on a GPU (the default), or cpu. Needs no GPU."""
    noise_seed: int = 0
    """Seed of that generator."""
    modelscope: str | None = None
    """Folder of ModelScope's cv_diffusion_image-segmentation; excludes every other flag but --output."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")

    def check(self) -> None:
        """Raises ValueError for flags that do not go together."""
        if self.modelscope is not None:
            others = {field.name: field.default for field in fields(self) if field.name not in ("output", "modelscope")}
            if given := [name for name, default in others.items() if getattr(self, name) != default]:
                raise ValueError(f"--modelscope says everything itself: leave out {flag(given[0])}, or --modelscope")
            return
        given_networks = self._networks()
        if not given_networks:
            raise ValueError(
                "nothing to convert: give --ddpm FILE.pt, --mae FILE.pth, --swav FILE.pth, --swav-w2 FILE.pth, "
                "--diffusers DIR or --modelscope DIR"
            )
        if len(given_networks) > 1:
            raise ValueError(f"one network a bundle: give {' or '.join(map(flag, given_networks))}")
        if self.ddpm is None:
            ours = ("model_flags",) if self.diffusers else ("model_flags", "noise", "noise_generator", "noise_seed")
            self._refuse(ours, flag(given_networks[0]))
        if self.diffusers is not None:
            self._refuse(("classifiers", "experiment"), "--diffusers")
        if (self.classifiers is None) != (self.experiment is None):
            missing = "experiment FILE.json" if self.experiment is None else "classifiers DIR"
            raise ValueError(f"--classifiers and --experiment go together: add --{missing}, or leave out both")
        if self.noise is not None and (self.noise_generator is not None or self.noise_seed != 0):
            raise ValueError("--noise is the noise itself: leave out --noise-generator and --noise-seed, or --noise")

    def network(self) -> tuple[Source, str]:
        """What it is, and its file."""
        model_type = self._networks()[0]
        return model_type, getattr(self, model_type)

    def _networks(self) -> list[Source]:
        sources: tuple[Source, ...] = (*get_args(ModelType), "diffusers")
        return [source for source in sources if getattr(self, source) is not None]

    def _refuse(self, names: Sequence[str], with_flag: str) -> None:
        """Raises ValueError for what is only of a published DDPM."""
        defaults = {field.name: field.default for field in fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{flag(name)} does not go with this network: leave it out with {with_flag}")
