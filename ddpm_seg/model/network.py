"""The interface of a network that gives features or draws images; other code uses it only through its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from ddpm_seg.model.device.dtypes import DType
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import Extractor, FeatureConfig, NetworkBlocks
from ddpm_seg.model.samples.drawing import Drawing
from ddpm_seg.model.samples.sampling import SamplingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A kind of published file or folder that holds a network."""

    flag: str
    """Field of `ConvertConfig` that names the file; also the flag of jobs.convert."""
    title: str
    """Its name in messages."""
    loader: str | None = None
    """Module of `ddpm_seg.model.published` whose `load` reads it; see `published.loading`. None for a plain state dict
    that the network's class reads itself, by `from_shapes(shapes, image_size)`."""
    landmarks: Mapping[str, int | None] = field(default_factory=dict)
    """Names that only this network's state dict has, each with the length of its first axis if that matters too. They
    reveal a file that is given under the wrong flag."""
    options: tuple[str, ...] = ()
    """Other flags of jobs.convert that may be given with it."""


def require_images(network: Network) -> None:
    """Raises BundleError for a network that gives features of no images but those that it draws."""
    if not network.reads_images:
        raise drawn_images_only(network.title)


def drawn_images_only(title: str) -> BundleError:
    """The error if features of images are asked of a network with `reads_images` False; `title` names it in the
    message."""
    return BundleError(
        f"a {title} gives features only of the images that it draws; to label others, train a student on its samples "
        "(ddpm-seg distill), or convert a network that reads images"
    )


class Network(NetworkBlocks, Protocol):
    """The configuration of a network: everything but its weights. `networks.known` explains how to add one."""

    kind: ClassVar[str]
    """Name of the file with its weights, without suffix."""
    checkpoints: ClassVar[tuple[Checkpoint, ...]]
    """The kinds of files that jobs.convert reads it from."""
    reads_images: ClassVar[bool]
    """Whether it gives features of any image, or (False) only of images that it draws."""

    @classmethod
    def sections(cls) -> tuple[str, ...]:
        """Keys of bundle.json that name such a network; a bundle has exactly one key of all networks'."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Network:
        """The network that the `content` of bundle.json describes. Raises ValueError naming the key."""

    def to_json(self) -> dict[str, Any]:
        """Its part of bundle.json: one of `sections`, and anything else that `from_json` reads."""

    @property
    def schema_version(self) -> int:
        """Schema version of its bundles: the first version with such networks; see `bundle.files.SCHEMA_VERSIONS`."""

    @property
    def image_size(self) -> int:
        """Side of its square images, in pixels."""

    @property
    def noise_shape(self) -> tuple[int, ...] | None:
        """Shape of the noise shared by all images, which is stored with the weights; None without noise."""

    @property
    def peak_values(self) -> int:
        """Approximate number of values in memory at the peak of one image's pass."""

    def architecture(self) -> dict[str, Any]:
        """Everything that `build` depends on, as JSON."""

    def published_features(self) -> FeatureConfig:
        """The features that the published classifiers read; if there are none, a good choice."""

    def build(self) -> nn.Module:
        """The module, with random weights as at the start of training."""

    def check_dtype(self, dtype: DType) -> None:
        """Raises ValueError for a number format that it cannot run in."""

    def extractor(self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime) -> Extractor:
        """The network on its device, in evaluation mode. Uses the tensors themselves, without copying, if their types
        agree.

        Raises ValueError for a number format that it cannot run in.
        """

    def drawing(self, sampling: SamplingConfig) -> Drawing:
        """How it draws images. Raises BundleError if it cannot draw (`drawing.cannot_draw`), ValueError for options
        that do not apply to it."""
