"""Reads the UNet and noise schedule of a Hugging Face diffusers pipeline, as `DDPMPipeline.save_pretrained` writes
it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ddpm_seg.checks import flag
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.json_values import shown
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.diffusers_config import DiffusersUNetConfig
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.diffusers.files import Folder
from ddpm_seg.model.published.diffusers.hub import local_folder, needed_of_pipeline
from ddpm_seg.model.published.diffusers.latent import is_latent, load_latent
from ddpm_seg.model.published.diffusers.schedule import diffusion_of
from ddpm_seg.model.published.diffusers.weights import read_weights
from ddpm_seg.model.published.loading import Loaded
from ddpm_seg.model.published.state_dicts import check_shapes, usable
from ddpm_seg.model.shapes import shapes_of

logger = logging.getLogger(__name__)

PIPELINES = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "RePaintPipeline")
"""Pipelines whose UNet2DModel sees pixels and was trained on discrete timesteps."""
UNET, SCHEDULER = "unet", "scheduler"
_AUTOENCODERS = ("vae", "vqvae", "movq")
_PREFIX = "network."
"""Prefix of the weights' names in a `DiffusersUNet`."""


def load(config: ConvertConfig, image_size: int | None) -> Loaded:
    """The DDPM or latent diffusion model of --diffusers; see `published.loading`. A DDPM takes its image size from the
    folder."""
    assert config.diffusers is not None
    folder = _open(config.diffusers)
    if is_latent(folder):
        return load_latent(config, folder)
    for name in ("prompt", "image_size"):
        if getattr(config, name) is not None:
            raise ValueError(
                f"{flag(name)} cannot be combined with --diffusers of a network that sees pixels: leave it out"
            )
    network, weights = _ddpm(folder)
    return Loaded(network=network, weights=weights)


def _open(name: str) -> Folder:
    try:
        import diffusers  # noqa: F401  before anything is downloaded
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}: --diffusers needs pip install 'ddpm_seg[diffusers]'") from error

    uri = local_folder(name, needed_of_pipeline, landmark="model_index.json", what="diffusers pipeline")
    return Folder(uri)


def _ddpm(folder: Folder) -> tuple[DDPMConfig, Mapping[str, Tensor]]:
    """The network of a folder that sees pixels.

    Weights are float32 and match the network exactly: none is missing, unknown or of another shape. Raises ValueError
    for another kind of network, pipeline or schedule, and for files that are damaged or do not match.
    """
    _refuse_other_pipelines(folder)
    # Early pipelines, such as google/ddpm-church-256, have no subfolders.
    unet_part, found = folder.read_part((UNET, ""), "config.json")
    scheduler_part, scheduler = folder.read_part((SCHEDULER, ""), "scheduler_config.json")
    unet = _unet_of(found, folder.named(unet_part, "config.json"))
    diffusion = _diffusion_of(scheduler, folder.named(scheduler_part, "scheduler_config.json"))
    network = DDPMConfig(unet=unet, diffusion=diffusion)

    where = folder.named(unet_part)
    expected = _expected_shapes(network, folder.named(unet_part, "config.json"))
    state = read_weights(folder, unet_part)
    shapes = shapes_of(state)
    check_shapes(shapes, expected, f"{where}: not the weights of the network that its config.json describes")
    return network, {_PREFIX + key: tensor.float() for key, tensor in usable(state, where).items()}


def _expected_shapes(network: DDPMConfig, where: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights under diffusers' own names."""
    try:
        return {key.removeprefix(_PREFIX): shape for key, shape in weight_shapes(network).items()}
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _refuse_other_pipelines(folder: Folder) -> None:
    """Raises ValueError unless the pipeline draws pixels from its UNet alone."""
    index = folder.read_json("model_index.json")
    if index is None:
        parts = [part for part in _AUTOENCODERS if folder.has(part)]
        kind = "a folder"
    else:
        # A part that is not used is [null, null].
        given = [key for key, value in index.items() if not key.startswith("_") and value not in (None, [None, None])]
        parts = [key for key in given if key not in (UNET, SCHEDULER) and isinstance(index[key], list)]
        kind = f"a {shown(index.get('_class_name'))}"
    if parts:
        hint = " (its network sees latents, not pixels)" if set(parts) & set(_AUTOENCODERS) else ""
        raise ValueError(
            f"{folder.name}: {kind} with {', '.join(map(shown, parts[:3]))}{hint}; expected an unconditional pipeline "
            "of pixels, such as DDPMPipeline, with only unet and scheduler, or a StableDiffusionPipeline"
        )
    if index is not None and index.get("_class_name") not in PIPELINES:
        raise ValueError(
            f"{folder.named('', 'model_index.json')}: _class_name is {shown(index.get('_class_name'))}; expected an "
            f"unconditional pipeline of pixels: {', '.join(PIPELINES)}"
        )


def _unet_of(found: Mapping[str, Any], where: str) -> DiffusersUNetConfig:
    """The network that a config.json describes, without the arguments that this version of diffusers does not know."""
    from diffusers import UNet2DModel

    if found.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise ValueError(
            f"{where}: its network is a {shown(found['_class_name'])}; expected an unconditional UNet2DModel"
        )
    architecture = {key: value for key, value in found.items() if not key.startswith("_")}
    if unknown := sorted(architecture.keys() - inspect.signature(UNet2DModel.__init__).parameters.keys() - {"self"}):
        logger.warning(
            "%s: ignored, as this version of diffusers does not know them: %s", where, ", ".join(map(shown, unknown))
        )
    architecture = {key: value for key, value in architecture.items() if key not in unknown}
    size = architecture.get("sample_size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        architecture["sample_size"] = size[0]
    try:
        return DiffusersUNetConfig(architecture=architecture)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _diffusion_of(scheduler: Mapping[str, Any], where: str) -> DiffusionConfig:
    try:
        return diffusion_of(scheduler)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
