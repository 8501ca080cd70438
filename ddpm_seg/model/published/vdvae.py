"""Reads the encoder and decoder in checkpoints of openai/vdvae."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.vdvae import VDVAEConfig
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.flags import split_model_flags
from ddpm_seg.model.published.loading import Loaded
from ddpm_seg.model.published.state_dicts import State, check_shapes, read_checkpoint, state_dict, usable
from ddpm_seg.model.published.vdvae_flags import FLAGS, INNER, WIDTH, ZDIM, config_from_flags, contradictions
from ddpm_seg.model.shapes import Shapes, shapes_of, some

# Only needed to draw images. Whole names, as `decoder.bias_xs` is read.
_NOT_READ = re.compile(r"decoder\.(out_net\.|gain$|bias$)")
_FIRST_OF_BLOCK = re.compile(r"encoder\.enc_blocks\.\d+\.c1\.weight")
# Last convolutions of a decoder block's posterior and prior; only a part of their outputs is read.
_POSTERIOR = re.compile(r"decoder\.dec_blocks\.\d+\.enc\.c4\.")
_PRIOR = re.compile(r"decoder\.dec_blocks\.\d+\.prior\.c4\.")


def load(config: ConvertConfig, image_size: int | None) -> Loaded:
    """The network of --vdvae with --model-flags; see `published.loading`."""
    assert config.vdvae is not None
    flags = split_model_flags(config.model_flags or "", FLAGS)
    network, weights = load_vdvae(config.vdvae, flags)
    return Loaded(network=network, weights=weights, provenance={"model_flags": flags} if flags else {})


def load_vdvae(uri: str, flags: Mapping[str, str] | None = None) -> tuple[VDVAEConfig, State]:
    """A state dict of openai/vdvae without the parts that only draw images, and its configuration.

    The published networks are recognised by their shapes; others need `flags` (see `vdvae_flags.FLAGS`). Raises
    ValueError if the file is damaged, refused, or another network's; if it contradicts a flag, the message names the
    flag.
    """
    name = storage.redact(uri)
    whole = state_dict(read_checkpoint(uri), name)
    state = {key: tensor for key, tensor in whole.items() if not _NOT_READ.match(key)}
    shapes = shapes_of(state)
    for key in (WIDTH, INNER, ZDIM):
        if len(shapes.get(key, ())) != 4:
            wrong = f"{key} is {shapes[key]}" if key in shapes else f"it has no {key}, but {some(whole)}"
            raise ValueError(f"{name}: not a VDVAE checkpoint: {wrong}")
    _refuse_differing_widths(shapes, name)
    config, flags = config_from_flags(flags or {}, shapes, name)
    if found := next(contradictions(config, flags, shapes), None):
        raise ValueError(f"{name}: the model flags are not this checkpoint's: {found}")
    check_shapes(shapes, published_shapes(config), f"{name}: not the VDVAE that the model flags describe")
    return config, {key: _what_is_read(key, tensor, config.zdim) for key, tensor in usable(state, name).items()}


def _refuse_differing_widths(shapes: Shapes, name: str) -> None:
    """Raises ValueError for networks such as the published ffhq1024."""
    widths = {shape[1] for key, shape in shapes.items() if _FIRST_OF_BLOCK.fullmatch(key) and len(shape) == 4}
    if len(widths) > 1:
        raise ValueError(
            f"{name}: this VDVAE has several widths ({', '.join(map(str, sorted(widths)))}), like ffhq1024 "
            "(custom_width_str), and cannot be converted; give one with a single width, such as ffhq256"
        )


def published_shapes(config: VDVAEConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the file's tensors: there, posteriors also have a deviation, and priors a mean and a deviation."""
    shapes = {}
    for key, (rows, *rest) in weight_shapes(config).items():
        more = config.zdim if _POSTERIOR.match(key) else 2 * config.zdim if _PRIOR.match(key) else 0
        shapes[key] = (rows + more, *rest)
    return shapes


def _what_is_read(key: str, tensor: Tensor, zdim: int) -> Tensor:
    """Keeps a posterior's mean, which comes first, and what a prior adds to the state, which comes last."""
    if _POSTERIOR.match(key):
        return tensor[:zdim]
    return tensor[2 * zdim :] if _PRIOR.match(key) else tensor
