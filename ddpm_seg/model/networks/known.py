"""The networks that features or images can come from. A new one is one file here, one line in NETWORKS and one flag.

1. **The file**, `networks/NAME.py`: a frozen dataclass of the architecture, its configuration, and the `nn.Module` that
   its `build` returns. The dataclass has what `ddpm_seg.model.network.Network` requires. A network that sees an image
   once, without noise, inherits most of it from `image_network.ImageNetwork`, and defines

   * `kind`: its section in bundle.json, and the name of its weights' file;
   * `title`, its name in messages, and a field `image_size`;
   * `__post_init__`, which refuses impossible values, as the bundle may be untrusted;
   * `block_channels` and `block_sides` of the maps that can be read, and `peak_values`, which sets batch sizes;
   * `preprocess(images, device)`, from images to its input, and `published_features()`, the blocks to read by default;
   * `build()`, whose module has `activations(x, blocks)` and computes nothing after the last of `blocks`.

   Fixed tensors that belong to the model (a mean code, a prompt's embedding) are buffers of the module. If
   fields are not plain values, define `to_json` and `from_json`; if parts must stay float32, define `cast`.
2. **The line** in NETWORKS.
3. **The flag**: a field of `published.convert_config.ConvertConfig`, and in the dataclass a `Checkpoint` with the
   flag's name and the module of `published/` that reads such a file (`published.loading` explains it).

A vision network that a library builds from the arguments in its folders is shorter: its base is
`library_network.LibraryNetwork`, and `published.diffusers.library_folder` reads its weights. One more `model_type` of
transformers is a line in `transformers_network.FAMILIES`.

A network that draws images also defines `drawing(sampling)`: `ddpm_seg.model.samples.drawing` explains it, and
`ddpm.DDPMDrawing` is an example. The drawing interprets the flags of jobs.generate: a new flag is a field of
`GenerateConfig` and of `SamplingConfig`. If features come only with images that the network draws, the base is
`plain_network.PlainNetwork`.

Import slow or optional packages (torchvision, diffusers) where they are used, since every job imports this module.
"""

from __future__ import annotations

from ddpm_seg.model.network import Network
from ddpm_seg.model.networks.alae import ALAEConfig
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.latent import LatentDiffusionConfig
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.model.networks.style.gan_encoder import GANEncoderConfig
from ddpm_seg.model.networks.style.gan_inversion import GANInversionConfig
from ddpm_seg.model.networks.style.stylegan import StyleGANConfig
from ddpm_seg.model.networks.style.stylegan2 import StyleGAN2Config
from ddpm_seg.model.networks.swav import SwAVConfig
from ddpm_seg.model.networks.timm_network import TimmConfig
from ddpm_seg.model.networks.transformers_network import TransformersConfig
from ddpm_seg.model.networks.vdvae import VDVAEConfig

NETWORKS: tuple[type[Network], ...] = (
    DDPMConfig,
    MAEConfig,
    SwAVConfig,
    VDVAEConfig,
    ALAEConfig,
    GANEncoderConfig,
    GANInversionConfig,
    StyleGAN2Config,
    StyleGANConfig,
    LatentDiffusionConfig,
    TimmConfig,
    TransformersConfig,
)
