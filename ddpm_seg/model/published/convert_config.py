"""The settings of jobs.convert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddpm_seg import storage
from ddpm_seg.checks import check_least


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertConfig:
    """Exactly one network (with --classifiers and --experiment for a segmentation model), --modelscope or --pair alone,
    or --gan-samples with --task."""

    output: str
    """Folder or URI prefix (s3://bucket/prefix) to write the bundle to, or the samples of --gan-samples."""
    ddpm: str | None = None
    """guided-diffusion checkpoint: a .pt file with a state dict."""
    mae: str | None = None
    """Pretraining checkpoint of facebookresearch/mae: a .pth file."""
    swav: str | None = None
    """ResNet-50 checkpoint of facebookresearch/swav: a .pth file."""
    swav_w2: str | None = None
    """Checkpoint of facebookresearch/swav's double-width ResNet-50: a .pth file."""
    vdvae: str | None = None
    """Checkpoint of openai/vdvae: a .th file, preferably that of the averaged weights (…-model-ema.th)."""
    alae: str | None = None
    """StyleALAE checkpoint of podgorskiy/ALAE, a .pth file: converts its encoder."""
    diffusers: str | None = None
    """Hugging Face diffusers pipeline with a UNet2DModel, or a Stable Diffusion 1, 2 or XL: its folder, or its name on
    the hub."""
    prompt: str | None = None
    """Text that a Stable Diffusion is given with every image; its embedding is kept in the bundle. Default: none."""
    timm: str | None = None
    """Folder of a timm network that has forward_intermediates (DINOv3, DINOv2, RADIO, PE-Spatial, SigLIP 2, …), with
    its config.json, or its name on the hub."""
    transformers: str | None = None
    """Folder of a vision network of Hugging Face's transformers (DINOv2, DINOv3, RADIO, SigLIP 2, TIPSv2), with its
    config.json, or its name on the hub."""
    gan_encoder: str | None = None
    """Checkpoint of e4e (omertov/encoder4editing) or pSp (eladrich/pixel2style2pixel), a .pt file: converts its encoder
    only, whose activations are the features."""
    gan_inversion: str | None = None
    """Such a checkpoint, converted with its StyleGAN2: the features are the activations of the generator that
    reconstructs the encoded image."""
    stylegan2: str | None = None
    """StyleGAN2 generator: a .pt file of rosinality/stylegan2-pytorch, or a .pkl file of NVIDIA's stylegan2,
    stylegan2-ada-pytorch or stylegan3 code. The bundle draws images and labels those, but no other images."""
    stylegan: str | None = None
    """Generator of the first StyleGAN, in a .pt file of DatasetGAN's code (nv-tlabs/datasetGAN_release). Like
    --stylegan2 in all else."""
    avg_latent: str | None = None
    """Mean code of that generator: DatasetGAN's avg_latent_….npy file. Default: the mean of 10,000 codes."""
    image_size: int | None = None
    """Side of the images in pixels. For --gan-encoder, --gan-inversion and --alae, the side that images are resized to;
    default: 256, or the side of the --alae encoder if that is smaller. For --timm, --transformers and Stable Diffusion,
    a multiple of the network's patch or stride; default: the side of its training, or 512 for a DINOv3 or RADIO. For
    --stylegan2, the side of the drawn images or a half, a quarter, … of it, which averages their pixels; default: the
    generator's own."""
    encoder_type: Literal["e4e", "psp"] | None = None
    """Whether a --gan-inversion checkpoint is of e4e or pSp. Needed only if the checkpoint's options do not say."""
    classifiers: str | None = None
    """Folder of the trained ensemble: model_0.pth, model_1.pth, … Needs --experiment."""
    experiment: str | None = None
    """ddpm-segmentation's experiment file for these classifiers (experiments/*/ddpm.json, mae.json, …)."""
    model_flags: str | None = None
    """Flags that the --ddpm (MODEL_FLAGS) or --vdvae checkpoint was trained with, as one quoted string. Default: those
    of the published LSUN and FFHQ-256 networks, and for --vdvae those of the published network with the same shapes."""
    noise: str | None = None
    """.npy file, shape (1, 3, S, S), with the noise that the classifiers were trained with. Default: drawn as
    --noise-generator and --noise-seed say."""
    noise_generator: Literal["cpu", "cuda"] | None = None
    """Random generator to draw the noise with: PyTorch's for cuda (the default, as ddpm-segmentation trains on a GPU)
    or for cpu. Neither needs a GPU."""
    noise_seed: int = 0
    """Seed of --noise-generator."""
    modelscope: str | None = None
    """Folder of ModelScope's cv_diffusion_image-segmentation. Allows no other flag except --output."""
    pair: tuple[str, str] | None = None
    """Two bundles: the new one has the networks of both, each with its own preprocessing and side, for ddpm-seg
    train to train one ensemble on the maps of both. Allows no other flag except --output."""
    gan_samples: str | None = None
    """Published labelled samples of DatasetGAN or DatasetDDPM: an .npz file of images, labels, perhaps latents, and
    uncertainties. Writes a table of samples, for ddpm-seg curate and ddpm-seg distill, instead of a bundle. Needs
    --task."""
    task: str | None = None
    """The classes that the ids in the --gan-samples stand for: the name of a built-in task, or a .yaml or .json file
    with class_names."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, image_size=1)
