"""Any network of timm that gives its intermediate maps (`forward_intermediates`), as a source of features."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor, nn

from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.library_network import Backbone, LibraryNetwork, check_arguments

_NOT_ARCHITECTURE = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_filter_fn"),
    *("pretrained_model_args", "checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "model_cfg"),
    *("feature_cfg", "features_only", "out_indices", "kwargs_filter", "num_classes", "in_chans", "device", "dtype"),
)
"""Arguments of timm's factory that read files, or that are set here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimmConfig(LibraryNetwork):
    """A name of timm's registry, and its `arguments` (`model_args` in timm's config.json), of which `img_size` is the
    side that its weights were trained for."""

    kind: ClassVar[str] = "timm"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = (
        Checkpoint(flag="timm", title="timm", loader="timm_folder", options=("image_size",)),
    )

    name: str
    """Its name in timm's registry, such as "vit_small_patch16_dinov3"."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w{1,100}", self.name):
            raise ValueError(f"name must be a name of timm's registry, got {self.name[:100]!r}")
        check_arguments(self.arguments, refused=_NOT_ARCHITECTURE)
        LibraryNetwork.__post_init__(self)

    @property
    def title(self) -> str:
        return f"timm {self.name}"

    def backbone(self) -> TimmBackbone:
        network = TimmBackbone(create(self.name, self.arguments, num_classes=0))
        network.set_input_size(self.image_size)
        return network


def create(architecture: str, arguments: Mapping[str, Any], *, num_classes: int) -> nn.Module:
    """timm's network with random weights. Raises ModuleNotFoundError without timm; ValueError for a name or arguments
    that timm does not know, and for a network that does not give its maps."""
    import timm

    if not timm.is_model(architecture):
        raise ValueError(f"timm {timm.__version__} has no network {architecture}; a newer one may have it")
    try:
        network = timm.create_model(architecture, pretrained=False, num_classes=num_classes, **arguments)
    # Each network's constructor raises its own exceptions for arguments that it does not take.
    except Exception as error:
        raise ValueError(f"timm's {architecture} cannot be built: {error}") from error
    if not hasattr(network, "forward_intermediates"):
        raise ValueError(f"timm's {architecture} does not give its maps: it has no forward_intermediates")
    return network


class TimmBackbone(Backbone):
    """Gives the maps of timm's own `forward_intermediates`."""

    @cached_property
    def depth(self) -> int:
        return len(self.network.feature_info)

    @property
    def patch(self) -> int:
        """Sides of images must be multiples of this."""
        patch = getattr(getattr(self.network, "patch_embed", None), "patch_size", 1)
        return patch[0] if isinstance(patch, tuple | list) else patch

    def set_input_size(self, side: int) -> None:
        """Prepares for images of side x side pixels; position embeddings are resized as timm does it."""
        if hasattr(self.network, "set_input_size"):
            self.network.set_input_size(img_size=(side, side))

    def activations(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]:
        return self.network.forward_intermediates(
            x, indices=sorted(set(blocks)), stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
