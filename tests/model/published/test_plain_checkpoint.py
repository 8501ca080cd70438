"""A network whose checkpoint is its own state dict needs no loader: its class reads the shapes itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.image_network import ImageNetwork
from ddpm_seg.model.networks.pixel_values import to_imagenet
from ddpm_seg.model.published import loading
from ddpm_seg.model.shapes import Shapes


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyConfig(ImageNetwork):
    kind: ClassVar[str] = "tiny"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = (
        Checkpoint(flag="tiny", title="Tiny", landmarks={"convs.0.weight": None}),
    )
    image_size: int
    width: int

    @classmethod
    def from_shapes(cls, shapes: Shapes, image_size: int | None) -> TinyConfig:
        return cls(image_size=image_size or 32, width=shapes["convs.0.weight"][0])

    @property
    def title(self) -> str:
        return "Tiny"

    @property
    def block_channels(self) -> list[int]:
        return [self.width] * 3

    @property
    def block_sides(self) -> list[int]:
        return [self.image_size // 2**level for level in (1, 2, 3)]

    @property
    def peak_values(self) -> int:
        return self.width * self.image_size**2

    def published_features(self) -> FeatureConfig:
        return FeatureConfig(steps=(), blocks=(0, 1, 2))

    def preprocess(self, images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
        return to_imagenet(images, device)

    def build(self) -> nn.Module:
        return Tiny(self.width)


class Tiny(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 if level == 0 else width, width, 3, 2, 1) for level in range(3))

    def activations(self, x: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        found = []
        for index, conv in enumerate(self.convs[: max(blocks) + 1]):
            x = conv(x).relu()
            if index in blocks:
                found.append(x)
        return found


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "NETWORKS", (*loading.NETWORKS, TinyConfig))
    monkeypatch.setattr(loading, "CHECKPOINTS", (*loading.CHECKPOINTS, *TinyConfig.checkpoints))


def load(path: Path, image_size: int | None = None) -> loading.Loaded:
    config = SimpleNamespace(tiny=str(path), image_size=image_size)
    return loading.load_network(TinyConfig.checkpoints[0], config, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("image_size", [None, 64])
def test_the_class_reads_its_configuration_off_the_shapes(tmp_path: Path, image_size: int | None) -> None:
    state = Tiny(5).state_dict()
    torch.save({"model": state}, tmp_path / "tiny.pt")
    loaded = load(tmp_path / "tiny.pt", image_size)
    assert loaded.network == TinyConfig(image_size=image_size or 32, width=5)
    for key, value in loaded.weights.items():
        torch.testing.assert_close(value, state[key])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"convs.0.weight": None}, "not a Tiny checkpoint: it has no convs.0.weight"),
        ({"convs.2.bias": None}, "not the network of a Tiny"),
        ({"more": torch.zeros(3)}, "not the network of a Tiny"),
        ({"convs.1.bias": torch.zeros(4)}, "not the network of a Tiny"),
        ({"convs.1.bias": torch.full((5,), torch.nan)}, "finite"),
        ({"convs.0.weight": torch.tensor(1.0)}, "not a Tiny checkpoint"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, Tensor | None], said: str) -> None:
    state = {**Tiny(5).state_dict(), **change}
    torch.save({key: value for key, value in state.items() if value is not None}, tmp_path / "tiny.pt")
    with pytest.raises(ValueError, match=said) as caught:
        load(tmp_path / "tiny.pt")
    assert "tiny.pt" in str(caught.value)
