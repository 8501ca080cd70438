"""What every network offers that features or images come from: its configuration is all that the rest knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from ddpm_seg.model.device.dtypes import SegmentDType
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.drawing import Drawing
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import Extractor, FeatureConfig, NetworkBlocks
from ddpm_seg.model.sampling import SamplingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A kind of published file or folder that a network comes in."""

    flag: str
    """The field of `ConvertConfig`, and so the flag of jobs.convert, that names the file."""
    title: str
    """Its name in messages."""
    loader: str
    """The module of `ddpm_seg.model.published` whose `load` reads it; see `published.loading`."""
    landmarks: Mapping[str, int | None] = field(default_factory=dict)
    """Names in its state dict that no other network has, with their first axis's length where that tells it from others
    too: by them a file under the wrong flag is recognised."""
    options: tuple[str, ...] = ()
    """The other flags of jobs.convert that go with it."""


def drawn_images_only(title: str) -> BundleError:
    """What is raised where features of an image are asked of a network, a `title`, whose `reads_images` is False."""
    return BundleError(
        f"a {title} gives features only of the images that it draws; to label others, train a student on its samples "
        "(jobs.distill), or convert a network that reads images"
    )


class Network(NetworkBlocks, Protocol):
    """The configuration of a network: everything but its weights. `networks.known` says how a new one is added."""

    kind: ClassVar[str]
    """Name of its weights' file, without the suffix."""
    checkpoints: ClassVar[tuple[Checkpoint, ...]]
    """What jobs.convert reads it from."""
    reads_images: ClassVar[bool]
    """Whether it gives features of any image; False where only of those that it draws."""

    @classmethod
    def sections(cls) -> tuple[str, ...]:
        """Keys of bundle.json that name such a network; a bundle has exactly one of all networks' keys."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Network:
        """The network that bundle.json `content` describes. Raises ValueError, naming the key."""

    def to_json(self) -> dict[str, Any]:
        """Its part of bundle.json: one of `sections`, and what else `from_json` reads."""

    @property
    def schema_version(self) -> int:
        """Schema version of its bundles: the first one with such networks; see `bundle.files.SCHEMA_VERSIONS`."""

    @property
    def image_size(self) -> int:
        """Side of its square images."""

    @property
    def noise_shape(self) -> tuple[int, ...] | None:
        """Shape of the noise that all images share, which is stored beside the weights; None without noise."""

    @property
    def peak_values(self) -> int:
        """Numbers in memory, about, at the peak of one image's way through it."""

    def architecture(self) -> dict[str, Any]:
        """What `build` depends on, as JSON."""

    def published_features(self) -> FeatureConfig:
        """What the published classifiers read; where there are none, a good choice."""

    def build(self) -> nn.Module:
        """The network as training would begin with it."""

    def check_dtype(self, dtype: SegmentDType) -> None:
        """Raises ValueError for a number format that it does not run in."""

    def extractor(self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime) -> Extractor:
        """The network on its device in evaluation mode. Tensors are taken over, not copied, where types agree.

        Raises ValueError for a number format that it does not run in.
        """

    def drawing(self, sampling: SamplingConfig) -> Drawing:
        """How it draws images. Raises BundleError if it cannot (`drawing.cannot_draw`), and ValueError for what is
        asked in vain of this kind."""
