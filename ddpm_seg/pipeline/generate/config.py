"""The settings of jobs.generate. Imports neither torch nor Ray, so that --help is fast."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg.checks import check_least
from ddpm_seg.model.device.dtypes import DType
from ddpm_seg.model.samples.sampling import Sampler, SamplingConfig
from ddpm_seg.option_order import own_options_first
from ddpm_seg.pipeline.run_options import RunOptions


@own_options_first
@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateConfig(RunOptions):
    """Settings of `jobs.generate`."""

    model: str = "avatars-10"
    """Model bundle: the name of one that comes with the package, or the folder or URI prefix that ddpm-seg train,
    ddpm-seg pretrain or ddpm-seg convert wrote. If the bundle has no ensemble, the samples get no masks."""
    num_samples: int = 100
    """Total number of samples to have for this seed (numbers 0 to NUM_SAMPLES - 1). Running again with a larger number
    draws only the missing ones."""
    seed: int = 0
    """Random seed. Each sample depends only on the seed and on its own number."""
    output: str = "samples"
    """Folder or URI prefix for the tables."""
    sampler: Sampler = "ddim"
    """Sampling method: ddim, ddpm (ancestral sampling), or dpm-solver++ (second order)."""
    steps: int = 20
    """Evaluations of the network per sample, at least 2. More take longer."""
    eta: float = 1.0
    """For ddim only: how much noise each step adds, from 0 (none) to 1 (as much as ancestral sampling)."""
    truncation: float | None = None
    """For a StyleGAN2 only: scales the distance of each sample's latent code from the mean code, from 0 (all images the
    same) to 1 (as varied as in training). Default: what the ensemble was trained with, else 0.7."""
    dtype: DType = "float32"
    """Number format of the network's activations. float16 and bfloat16 are faster on GPUs and on CPUs with instructions
    for them; int8 is for large diffusion networks on CPUs."""
    batch_size: int | None = None
    """Samples drawn at once by each copy of the model. Default: 8 on a CPU; on a GPU an estimate of what fits, halved
    if memory runs out. Repeat the batch size to repeat the samples bit for bit."""
    chunk_size: int = 64
    """Samples per chunk of work. If a machine dies, the chunks in progress on it are done again."""
    real: str | None = None
    """Real images to compare the samples with: a folder, URI prefix or list. Writes the distances to quality.json, and
    if these images have masks, also the area of each class in both sets."""
    inception: str | None = None
    """TorchScript file of a network, such as Inception, whose features are used to compare samples with --real.
    Default: activations of the model's own network."""

    def __post_init__(self) -> None:
        RunOptions.__post_init__(self)  # super() does not know a class that slots=True makes anew
        check_least(self, num_samples=1)
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed must lie between 0 and {2**63 - 1}, got {self.seed}")
        if self.inception and not self.real:
            raise ValueError("--inception needs --real: it compares the samples with real images")

    def sampling(self) -> SamplingConfig:
        # Only DDIM uses eta; zero it for the other samplers so that it does not change their config_hash.
        return SamplingConfig(
            sampler=self.sampler,
            steps=self.steps,
            eta=self.eta if self.sampler == "ddim" else 0.0,
            truncation=self.truncation,
        )
