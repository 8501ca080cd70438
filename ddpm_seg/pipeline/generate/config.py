"""What the generate job is told. Without torch and Ray, so that --help is quick."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg.checks import check_least
from ddpm_seg.model.device.dtypes import DType
from ddpm_seg.model.sampling import Sampler, SamplingConfig
from ddpm_seg.pipeline.run_options import RunOptions, own_options_first


@own_options_first
@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateConfig(RunOptions):
    """Images drawn from a model, with their masks, as Parquet."""

    model: str = "avatars-10"
    """Model bundle: the name of one that comes with the package, or where jobs.train, jobs.pretrain or jobs.convert
    wrote one. Without an ensemble, its samples are not labelled."""
    num_samples: int = 100
    """Samples 0 to this number of the seed. A larger number later draws only what is missing."""
    seed: int = 0
    """Each sample depends on the seed and its own number alone."""
    output: str = "samples"
    """Folder or prefix for the tables."""
    sampler: Sampler = "ddim"
    """DDIM, ancestral sampling (ddpm), or DPM-Solver++ of second order."""
    steps: int = 20
    """Evaluations of the network for a sample."""
    eta: float = 1.0
    """Noise that DDIM adds on the way, as a share of ancestral sampling's; 0 to 1."""
    dtype: DType = "float32"
    """Number format of the network. The narrow ones are faster on GPUs."""
    batch_size: int | None = None
    """Samples drawn at once. By default 8 on a CPU; on a GPU as many as may fit, halved where they do not. The same
    number gives the same bytes."""
    chunk_size: int = 64
    """Samples in a unit of work, which is what is lost when a machine dies."""
    real: str | None = None
    """Real images, annotated or not: says in quality.json how far the samples are from them."""
    inception: str | None = None
    """A TorchScript file of a network whose features --real is compared by, such as Inception. Default: the DDPM's
    own activations."""

    def __post_init__(self) -> None:
        RunOptions.__post_init__(self)  # super() does not know a class that slots=True makes anew
        check_least(self, num_samples=1)
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed must lie between 0 and {2**63 - 1}, got {self.seed}")
        if self.inception and not self.real:
            raise ValueError("--inception is what --real images are compared by: give them too")

    def sampling(self) -> SamplingConfig:
        # Only DDIM has an eta: the other samplers' tables should not be apart by it.
        return SamplingConfig(sampler=self.sampler, steps=self.steps, eta=self.eta if self.sampler == "ddim" else 0.0)
