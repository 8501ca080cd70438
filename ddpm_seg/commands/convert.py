"""Converts published checkpoints to a model bundle, the folder that the other jobs take as --model.

    ddpm-seg convert --ddpm ffhq.pt \\
        --classifiers pixel_classifiers/ffhq_34/ddpm/50_150_250_5_6_7_8_12 \\
        --experiment experiments/ffhq_34/ddpm.json --output bundles/ffhq-34

Converts a guided-diffusion network with ddpm-segmentation's classifiers (model_0.pth, model_1.pth, …) and their
experiment file. Networks outside the LSUN/FFHQ-256 family need --model-flags. Without --classifiers and --experiment
the bundle holds only the network, for ddpm-seg train to train an ensemble on:

    ddpm-seg convert --ddpm model.pt --output s3://models/faces-128 \\
        --model-flags "--image_size 128 --num_channels 128 --num_res_blocks 2 \\
        --learn_sigma True"

The same noise is added to every image, and it must be the noise that the classifiers were trained with. The default is
ddpm-segmentation's: drawn on a GPU from seed 0 (`--noise-generator cuda`; the conversion itself needs no GPU). For
classifiers trained on a CPU give `--noise-generator cpu`; for any other noise, `--noise FILE.npy`.

    ddpm-seg convert --mae ffhq.pth \\
        --classifiers pixel_classifiers/ffhq_34/mae \\
        --experiment experiments/ffhq_34/mae.json --output bundles/ffhq-34-mae

Converts one of the networks that ddpm-segmentation compares with: --mae, --swav or --swav-w2, each with its own
classifiers and experiment file.

    ddpm-seg convert --vdvae ffhq256-iter-1700000-model-ema.th \\
        --output bundles/ffhq-vdvae
    ddpm-seg convert --alae ffhq/model_157.pth --output bundles/ffhq-alae

Converts a VDVAE (encoder and decoder) or the encoder of a StyleALAE. A VDVAE that openai/vdvae did not publish needs
the flags of its training: --model-flags "--enc_blocks … --dec_blocks … --dataset …".

    ddpm-seg convert --gan-inversion e4e_ffhq_encode.pt \\
        --output bundles/ffhq-e4e

Converts a StyleGAN2 encoder (e4e or pSp). With --gan-inversion features are read from the generator, with --gan-encoder
from the encoder itself.

    ddpm-seg convert --diffusers ddpm-church-256 --output bundles/church

Converts a Hugging Face diffusers pipeline (a folder, or a name on the hub) with an unconditional UNet2DModel. Its
blocks are numbered by up-block, the deepest first.

    ddpm-seg convert --timm vit_small_patch16_dinov3 --image-size 512 \\
        --output bundles/dinov3

Converts a network of timm (a folder, or a name on the hub), such as DINOv3, DINOv2, RADIO or PE-Spatial. Its blocks are
those of timm's forward_intermediates.

    ddpm-seg convert --transformers dinov2-with-registers-base \\
        --output bundles/dinov2

Converts a vision network of Hugging Face's transformers (a folder, or a name on the hub): DINOv2 with or without
registers, DINOv3, RADIO, SigLIP 2 or TIPSv2. Code in the folder is never run.

    ddpm-seg convert --diffusers stable-diffusion-v1-5 --prompt "a face" \\
        --output bundles/sd

Converts a Stable Diffusion 1 or 2, with the embedding of a prompt (empty by default).

    ddpm-seg convert --pair avatars-10 bundles/dinov2 \\
        --output bundles/avatars-and-dinov2

Joins the networks of two bundles: one ensemble is trained on the maps of both. Each sees the image at its own side and
with its own preprocessing, a DDPM at the steps of its bundle.

    ddpm-seg convert --modelscope cv_diffusion_image-segmentation \\
        --output bundles/modelscope-ffhq-34

Converts a ModelScope folder, which holds the network, the classifiers and their settings. Its noise is drawn on a CPU.

    ddpm-seg convert --gan-samples gan/ffhq_34/samples_256x256x3.npz \\
        --task ffhq_34 --output samples

Converts published samples of DatasetGAN (or of DatasetDDPM) to a table of samples, to train a student on without a
generator: ddpm-seg curate, then ddpm-seg distill.
"""

from __future__ import annotations

import sys

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.model.published.convert_config import ConvertConfig


def main(argv: list[str] | None = None) -> int:
    return run(ConvertConfig, _convert, __doc__, argv, rewrite=_join_model_flags)


def _convert(config: ConvertConfig) -> str:
    if config.gan_samples is not None:
        return _convert_samples(config)
    from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
    from ddpm_seg.model.published.convert import convert

    output = config.output
    bundle = convert(config)
    header = save_bundle(bundle, output)
    size = sum(file.size_bytes or 0 for file in storage.list_files(output))
    network = f"a {bundle.network.title} without classifiers"
    kind = f"{bundle.task.name}, {len(bundle.members)} classifiers" if bundle.task else network
    label = f"ddpm-seg label --model {config.output} --input IMAGES --output TABLES"
    train = "ddpm-seg train --help   # an ensemble on a few annotated images"
    if not bundle.network.reads_images:  # it learns from its own samples alone
        train = f"ddpm-seg generate --model {config.output} --num-samples 20 --output DRAWN   # to annotate"
    return "\n".join(
        [
            f"bundle:   {output}  ({kind}, {size / 1e6:.1f} MB)",
            f"model_id: {header.model_id}",
            f"next:     {label if bundle.task else train}",
        ]
    )


def _convert_samples(config: ConvertConfig) -> str:
    from ddpm_seg.pipeline.generate.published import convert_samples

    found = convert_samples(config)
    return "\n".join(
        [
            f"samples: {found.layout.configuration()}  ({found.samples})",
            f"report:  {found.layout.report}",
            f"next:    ddpm-seg curate --samples {config.output}",
        ]
    )


def _join_model_flags(argv: list[str]) -> list[str]:
    """Joins `--model-flags` and its value with "=": as a separate argument, a value that begins with dashes would be
    parsed as a flag."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in ("--model-flags", "--model_flags"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


if __name__ == "__main__":
    sys.exit(main())
