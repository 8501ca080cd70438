"""Scores a model on annotated images: mean IoU (published and usual formula), IoU per class, calibration, worst images.

    ddpm-seg evaluate --model bundles/avatars-10 --images avatars/test \\
        --output evaluation
    ddpm-seg evaluate --model s3://models/ffhq --images s3://photos/test \\
        --labels s3://photos/labels --output s3://photos/evaluation
    ddpm-seg evaluate --model bundles/avatars-10 --images avatars/plenty \\
        --splits 5 --shots 20 --output few-shot
    ddpm-seg evaluate --model bundles/avatars-10 --images avatars/plenty \\
        --splits 5 --shots 5 10 20 40 80 --baselines rgb untrained \\
        --output curve
    ddpm-seg evaluate --model bundles/avatars-10 --images avatars/test \\
        --members 1 2 5 10 --output members

Labels the images into --output as ddpm-seg label does, or scores existing labels (--labels). Writes metrics.json,
images.parquet and evaluation.html. After an interruption, the same command continues. Exit status: see ddpm-seg label
--help.
"""

from __future__ import annotations

import sys
from typing import Any

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.studies.evaluate_config import METRICS, PAGE, EvaluateConfig


def main(argv: list[str] | None = None) -> int:
    return run(EvaluateConfig, _evaluate, __doc__, argv)


def _evaluate(config: EvaluateConfig) -> str:
    from ddpm_seg.studies.agreement import run_agreement
    from ddpm_seg.studies.evaluate import run_evaluate
    from ddpm_seg.studies.few_shot_splits import run_splits
    from ddpm_seg.studies.learning_curve import run_curve
    from ddpm_seg.studies.members import run_members

    output = config.output
    if config.labels_of is not None:
        return describe_agreement(run_agreement(config), output)
    if config.members:
        return describe_members(run_members(config), output)
    if config.splits is not None and len(config.shots) > 1:
        return describe_curve(run_curve(config), output)
    if config.splits is not None:
        return describe_splits(run_splits(config), output)
    return describe(run_evaluate(config), output)


def describe_agreement(found: dict[str, Any], output: str) -> str:
    """The report to print of two annotators: one line per class, then over all."""
    width = max(len(entry["class_name"]) for entry in found["classes"])
    lines = [f"{'class':<{width}}    IoU  pixels of the first"]
    for entry in found["classes"]:
        agreement = "    –" if entry["usual_iou"] is None else f"{entry['usual_iou']:.3f}"
        lines.append(f"{entry['class_name']:<{width}}  {agreement}  {entry['pixels']:>19,}")
    lines += ["", f"images          {found['images']} with two annotations", *_own_size(found["own_size"])]
    return "\n".join([*lines, f"metrics         {storage.join(output, METRICS)}"])


def describe_splits(found: dict[str, Any], output: str) -> str:
    """The report to print: one line per split, then mean and standard deviation."""
    titles = ["published IoU", "usual IoU", "pixel accuracy", "own size IoU", "boundary 2px", "boundary IoU"]
    lines = ["  ".join([f"{'':<10}", *titles])]
    for row in [*found["splits"], {"split": "mean", **{name: one["mean"] for name, one in found["means"].items()}}]:
        scores = ["–" if row[name] is None else f"{row[name]:.4f}" for name in found["means"]]
        cells = (f"{score:>{len(title)}}" for score, title in zip(scores, titles, strict=True))
        lines.append("  ".join([f"{row['split']:<10}", *cells]))
    deviation = "" if found["deviation"] is None else f" ± {found['deviation']:.4f}"
    lines += [
        "",
        f"mean IoU        {found['miou']:.4f}{deviation} by the published formula, {found['shots']} images to train on",
        f"metrics         {storage.join(output, METRICS)}",
        f"pages           {storage.join(output, 'split-*/*', PAGE)}",
    ]
    return "\n".join(lines)


def describe_curve(found: dict[str, Any], output: str) -> str:
    """The report to print: one line per number of training images."""
    lines = ["images to train on  mean IoU by the published formula"]
    lines += [f"{point['shots']:>18}  {_score(point)}" for point in found["curve"]]
    for baseline in found.get("baselines", []):
        lines += ["", baseline["method"], *(f"{point['shots']:>18}  {_score(point)}" for point in baseline["curve"])]
    lines += [""] if found["advice"] is None else ["", found["advice"], ""]
    lines += [
        f"metrics         {storage.join(output, METRICS)}",
        f"page            {storage.join(output, PAGE)}",
        f"curve           {storage.join(output, 'curve.*')}",
    ]
    return "\n".join(lines)


def describe_members(found: dict[str, Any], output: str) -> str:
    """The report to print: one line per number of classifiers."""
    lines = ["classifiers  ensembles  mean IoU by the published formula"]
    lines += [f"{point['members']:>11}  {point['ensembles']:>9}  {_score(point)}" for point in found["members"]]
    lines += [
        "",
        f"images          {found['images']}",
        f"metrics         {storage.join(output, METRICS)}",
        f"curve           {storage.join(output, 'members.*')}",
    ]
    return "\n".join(lines)


def _score(point: dict[str, Any]) -> str:
    deviation = "" if point["deviation"] is None else f" ± {point['deviation']:.4f}"
    return f"{point['miou']:.4f}{deviation}"


def describe(found: dict[str, Any], output: str) -> str:
    """The report to print: one line per class, then the overall scores and where the files are."""
    from ddpm_seg.evaluation.scores import learnt_from

    width = max(len(entry["class_name"]) for entry in found["classes"])
    lines = [f"{'class':<{width}}    IoU  usual  annotated pixels"]
    for entry in found["classes"]:
        usual = "    –" if entry["usual_iou"] is None else f"{entry['usual_iou']:.3f}"
        note = "  (ignored)" if entry["ignored"] else ""
        lines.append(f"{entry['class_name']:<{width}}  {entry['iou']:.3f}  {usual}  {entry['pixels']:>16,}{note}")
    usual, accuracy = found["usual_miou"], found["pixel_accuracy"]
    lines += [
        "",
        f"mean IoU        {found['miou']:.4f} by the published formula"
        + (f", {usual:.4f} by the usual one" if usual is not None else ""),
        f"images          {found['images']}, {found['pixels']:,} pixels scored"
        + (f", {accuracy:.2%} of them right" if accuracy is not None else ""),
    ]
    lines += _own_size(found["own_size"])
    if sentence := learnt_from.describe(found):
        lines.append(f"seen before     {sentence}")
    correlation = found["calibration"]["rank_correlation"]
    if correlation is not None:
        lines.append(f"calibration     rank correlation of uncertainty and error {correlation:.2f}")
    return "\n".join(
        [*lines, f"metrics         {storage.join(output, METRICS)}", f"page            {storage.join(output, PAGE)}"]
    )


def _own_size(found: dict[str, Any]) -> list[str]:
    near, wide = found["boundary_iou_2px"], found["boundary_iou"]
    edges = "" if near is None else f", boundary IoU {near:.4f} (2 pixels) and {wide:.4f} (2 % of the diagonal)"
    lines = [f"own size        mean IoU {found['miou']:.4f}{edges}"]
    confidence = found["confidence"]
    if confidence is not None and confidence["calibration_error"] is not None:
        lines.append(
            f"confidence      expected calibration error {confidence['calibration_error']:.4f} over all pixels"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
