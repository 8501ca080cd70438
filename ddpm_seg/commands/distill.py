"""Trains a student on generated samples, or on images that a model has labelled; it labels images without the DDPM.

    ddpm-seg distill --samples samples/ --validation avatars/validation \\
        --output bundles/student
    ddpm-seg distill --samples s3://bucket/synthetic \\
        --validation s3://photos/annotated \\
        --backbone-weights s3://models/resnet101.pth \\
        --output s3://models/student
    ddpm-seg distill --samples samples/ --num-samples 100 300 1000 \\
        --validation avatars/validation --output student-curve
    ddpm-seg distill --labels labels/ --architecture unet --augment \\
        --output bundles/student

ddpm-seg label, ddpm-seg evaluate and ddpm_seg.load take the student like any other model. After an interruption, the
same command continues after the last complete epoch. On a Ray cluster with GPUs (`ray job submit`), it runs one Ray
Train worker per GPU. Exit status: see ddpm-seg label --help.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.training.student.distill_config import DistillConfig

if TYPE_CHECKING:
    from ddpm_seg.model.bundle.student_bundle import StudentHeader


def main(argv: list[str] | None = None) -> int:
    return run(DistillConfig, _distill, __doc__, argv)


def _distill(config: DistillConfig) -> str:
    from ddpm_seg.studies.student_curve import run_student_curve
    from ddpm_seg.training.student.distill import distill

    if config.num_samples is not None and len(config.num_samples) > 1:
        return describe_curve(run_student_curve(config), config.output)
    return describe(distill(config), config.output)


def describe_curve(points: list[dict[str, Any]], output: str) -> str:
    """The report to print: one line per number of samples."""
    lines = ["samples  epochs  validation IoU"]
    lines += [f"{point['samples']:>7}  {point['epochs']:>6}  {point['miou']:>14.4f}" for point in points]
    students, curve = storage.join(output, "samples-N"), storage.join(output, "curve.*")
    return "\n".join([*lines, f"students  {students}", f"curve     {curve}"])


def describe(student: StudentHeader, output: str) -> str:
    """The report to print: one line per epoch, then the epoch that was kept and what to run next."""
    epochs = student.provenance["distillation"]["history"]
    scores = [epoch["miou"] for epoch in epochs]
    lines = ["epoch    loss  validation IoU"]
    for number, epoch in enumerate(epochs, start=1):
        loss, score = ("–" if epoch[name] is None else f"{epoch[name]:.4f}" for name in ("loss", "miou"))
        lines.append(f"{number:>5}  {loss:>6}  {score:>14}")
    kept = len(epochs) if scores[-1] is None else scores.index(max(scores)) + 1
    return "\n".join(
        [
            *lines,
            f"kept      epoch {kept}",
            f"model_id  {student.model_id}",
            f"bundle    {output}",
            f"next      ddpm-seg evaluate --model {output} --images ANNOTATED --output URI",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
