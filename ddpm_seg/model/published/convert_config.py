"""The settings of jobs.convert."""

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
    """Exactly one network (with --classifiers and --experiment for a segmentation model), or --modelscope alone."""

    output: str
    """Folder or URI prefix (s3://bucket/prefix) to write the bundle to."""
    ddpm: str | None = None
    """guided-diffusion checkpoint: a .pt file with a state dict."""
    mae: str | None = None
    """Pretraining checkpoint of facebookresearch/mae: a .pth file."""
    swav: str | None = None
    """ResNet-50 checkpoint of facebookresearch/swav: a .pth file."""
    swav_w2: str | None = None
    """Checkpoint of facebookresearch/swav's double-width ResNet-50: a .pth file."""
    diffusers: str | None = None
    """Hugging Face diffusers pipeline with a UNet2DModel: its folder, or its name on the hub."""
    classifiers: str | None = None
    """Folder of the trained ensemble: model_0.pth, model_1.pth, … Needs --experiment."""
    experiment: str | None = None
    """ddpm-segmentation's experiment file for these classifiers (experiments/*/ddpm.json, mae.json, …)."""
    model_flags: str = LSUN_FFHQ_256
    """MODEL_FLAGS that the --ddpm checkpoint was trained with, as one quoted string."""
    noise: str | None = None
    """.npy file, shape (1, 3, S, S), with the noise that the classifiers were trained with. Default: drawn as
    --noise-generator and --noise-seed say."""
    noise_generator: Literal["cpu", "cuda"] | None = None
    """Random generator to draw the noise with: PyTorch's for cuda (the default, as ddpm-segmentation trains on a GPU)
    or for cpu. Neither needs a GPU."""
    noise_seed: int = 0
    """Seed of --noise-generator."""
    modelscope: str | None = None
    """Folder of ModelScope's cv_diffusion_image-segmentation. Allows no other flag except --output."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")

    def check(self) -> None:
        """Raises ValueError for flags that cannot be combined."""
        if self.modelscope is not None:
            others = {field.name: field.default for field in fields(self) if field.name not in ("output", "modelscope")}
            if given := [name for name, default in others.items() if getattr(self, name) != default]:
                raise ValueError(f"--modelscope cannot be combined with {flag(given[0])}: leave out one of them")
            return
        given_networks = self._networks()
        if not given_networks:
            raise ValueError(
                "nothing to convert: give --ddpm FILE.pt, --mae FILE.pth, --swav FILE.pth, --swav-w2 FILE.pth, "
                "--diffusers DIR or --modelscope DIR"
            )
        if len(given_networks) > 1:
            raise ValueError(f"a bundle holds one network: give only one of {', '.join(map(flag, given_networks))}")
        if self.ddpm is None:
            ours = ("model_flags",) if self.diffusers else ("model_flags", "noise", "noise_generator", "noise_seed")
            self._refuse(ours, flag(given_networks[0]))
        if self.diffusers is not None:
            self._refuse(("classifiers", "experiment"), "--diffusers")
        if (self.classifiers is None) != (self.experiment is None):
            missing = "experiment FILE.json" if self.experiment is None else "classifiers DIR"
            raise ValueError(f"--classifiers and --experiment need each other: add --{missing}, or leave out both")
        if self.noise is not None and (self.noise_generator is not None or self.noise_seed != 0):
            raise ValueError(
                "--noise gives the noise itself: leave out --noise-generator and --noise-seed, or leave out --noise"
            )

    def network(self) -> tuple[Source, str]:
        """The kind of network, and its file, folder or hub name."""
        model_type = self._networks()[0]
        return model_type, getattr(self, model_type)

    def _networks(self) -> list[Source]:
        sources: tuple[Source, ...] = (*get_args(ModelType), "diffusers")
        return [source for source in sources if getattr(self, source) is not None]

    def _refuse(self, names: Sequence[str], with_flag: str) -> None:
        """Raises ValueError if one of the fields `names` is set."""
        defaults = {field.name: field.default for field in fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{flag(name)} cannot be combined with {with_flag}: leave it out")
