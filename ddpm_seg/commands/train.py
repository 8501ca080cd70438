"""Trains an ensemble of pixel classifiers on a pretrained network's features, from a few annotated images.

    ddpm-seg train --model ./ddpm --images ./avatars/train --task avatars_10 \\
        --output ./avatars-10
    ddpm-seg train --model s3://models/ddpm --images s3://photos/annotated \\
        --task ffhq_34 --steps 50 150 250 --blocks 5 6 7 8 12 \\
        --validation s3://photos/held-out --output s3://models/ffhq

About twenty annotated images are enough; --images lists the forms that annotations can have. After an interruption, the
same command continues. Exit status: see ddpm-seg label --help.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ddpm_seg.command_line.run import run
from ddpm_seg.training.ensemble.train_config import TrainConfig

if TYPE_CHECKING:
    from ddpm_seg.model.bundle.ensemble_bundle import Bundle


def main(argv: list[str] | None = None) -> int:
    return run(TrainConfig, _train, __doc__, argv)


def _train(config: TrainConfig) -> str:
    from ddpm_seg.training.ensemble.train import train_from_config

    return _summary(train_from_config(config), config.output)


def _summary(bundle: Bundle, output: str) -> str:
    how, losses = bundle.provenance["ensemble"], bundle.provenance["ensemble"]["final_loss"]
    lines = [
        f"{len(bundle.members)} members trained on {how['images']} images"
        f"{' and copies of them' if any(how['copies'].values()) else ''}, {how['labelled_pixels']} labelled pixels",
        f"batches per member: {min(how['iterations'])} to {max(how['iterations'])}; "
        f"last loss: {sum(losses) / len(losses):.4f}",
    ]
    if validation := bundle.provenance.get("validation"):
        miou, images = validation["published_miou"], validation["images"]
        lines.append(f"mean IoU (published formula) on {images} validation images: {miou:.4f}")
    use = f"label --model {output} --input IMAGES --output TABLES"
    if not bundle.network.reads_images:
        use = f"generate --model {output} --output SAMPLES"  # it labels nothing else
    lines += [f"bundle: {output}", f"next: ddpm-seg {use}"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
