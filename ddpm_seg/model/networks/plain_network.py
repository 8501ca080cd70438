"""Base of most networks' configurations: fields of plain values, one section of bundle.json, no noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from ddpm_seg.model.device.dtypes import DType, without_int8
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.features import Extractor
from ddpm_seg.model.json_values import from_json
from ddpm_seg.model.network import drawn_images_only
from ddpm_seg.model.samples.drawing import Drawing, cannot_draw
from ddpm_seg.model.samples.sampling import SamplingConfig

N = TypeVar("N", bound="PlainNetwork")


class PlainNetwork(ABC):
    """Base class of dataclasses that describe a network: the part of `network.Network` that rarely differs.

    By itself such a network neither reads nor draws images: a subclass adds `extractor` and `reads_images`, like
    `ImageNetwork`, or `drawing`.
    """

    __slots__ = ()

    kind: ClassVar[str]
    reads_images: ClassVar[bool] = False

    @property
    @abstractmethod
    def title(self) -> str: ...

    @abstractmethod
    def build(self) -> nn.Module: ...

    @property
    def timesteps(self) -> int:
        return 0

    @property
    def noise_shape(self) -> tuple[int, ...] | None:
        return None

    @property
    def schema_version(self) -> int:
        return 3

    @classmethod
    def sections(cls) -> tuple[str, ...]:
        return (cls.kind,)

    @classmethod
    def from_json(cls: type[N], content: Mapping[str, Any]) -> N:
        return from_json(cls, content[cls.kind], cls.kind)

    def to_json(self) -> dict[str, Any]:
        return {self.kind: asdict(self)}  # type: ignore[call-overload]  # subclasses are dataclasses

    def architecture(self) -> dict[str, Any]:
        return self.to_json()

    def check_dtype(self, dtype: DType) -> None:
        without_int8(dtype, self.title)

    def extractor(self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime) -> Extractor:
        raise drawn_images_only(self.title)

    def drawing(self, sampling: SamplingConfig) -> Drawing:
        raise cannot_draw(self.title)
