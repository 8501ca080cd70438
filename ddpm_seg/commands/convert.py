"""Published checkpoints to a model bundle.

    python -m jobs.convert --ddpm ffhq.pt --classifiers pixel_classifiers/ffhq_34/ddpm/50_150_250_5_6_7_8_12 \\
        --experiment experiments/ffhq_34/ddpm.json --output bundles/ffhq-34

guided-diffusion's network, ddpm-segmentation's classifiers (model_0.pth, model_1.pth, …) and their experiment file. The
network is taken for one of the LSUN/FFHQ-256 family; any other needs its own flags. Without --classifiers and
--experiment, the bundle holds the network alone, to train an ensemble on (`python -m jobs.train`):

    python -m jobs.convert --ddpm model.pt --output s3://models/faces-128 \\
        --model-flags "--image_size 128 --num_channels 128 --num_res_blocks 2 --learn_sigma True"

All images share one noise, and classifiers have to meet the noise that they were trained with. ddpm-segmentation drew
it on a GPU from seed 0, which is the default (`--noise-generator cuda`, computed without a GPU). Classifiers trained on
a CPU take `--noise-generator cpu`; any other noise comes as `--noise FILE.npy`.

    python -m jobs.convert --mae ffhq.pth --classifiers pixel_classifiers/ffhq_34/mae \\
        --experiment experiments/ffhq_34/mae.json --output bundles/ffhq-34-mae

What ddpm-segmentation compares with: --mae, or --swav or --swav-w2 with their own experiments and classifiers.

    python -m jobs.convert --diffusers ddpm-church-256 --output bundles/church

A pipeline of Hugging Face diffusers with an unconditional UNet2DModel: a folder, or a name on the hub. Its
blocks are its up-blocks, the deepest first.

    python -m jobs.convert --modelscope cv_diffusion_image-segmentation --output bundles/modelscope-ffhq-34

A ModelScope folder holds all of this, and its noise is the CPU generator's.
"""

from __future__ import annotations

import sys

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.model.published.convert_config import ConvertConfig


def main(argv: list[str] | None = None) -> int:
    return run(ConvertConfig, _convert, __doc__, argv, rewrite=_join_model_flags)


def _convert(config: ConvertConfig) -> str:
    from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
    from ddpm_seg.model.published.convert import convert

    output = config.output
    bundle = convert(config)
    header = save_bundle(bundle, output)
    size = sum(file.size_bytes or 0 for file in storage.list_files(output))
    network = f"a {bundle.network.title} without classifiers"
    kind = f"{bundle.task.name}, {len(bundle.members)} classifiers" if bundle.task else network
    label = f"python -m jobs.label --model {config.output} --input IMAGES --output TABLES"
    train = "python -m jobs.train --help   # an ensemble on a few annotated images"
    return "\n".join(
        [
            f"bundle:   {output}  ({kind}, {size / 1e6:.1f} MB)",
            f"model_id: {header.model_id}",
            f"next:     {label if bundle.task else train}",
        ]
    )


def _join_model_flags(argv: list[str]) -> list[str]:
    """Joins `--model-flags` and its value by "=": a value apart that begins with dashes is taken for a flag."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] in ("--model-flags", "--model_flags"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


if __name__ == "__main__":
    sys.exit(main())
