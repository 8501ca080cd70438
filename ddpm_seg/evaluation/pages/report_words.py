"""What a report is called, and the commands that take a person's verdicts about it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ddpm_seg import storage
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.tasks import TASKS, Task

SAMPLE_IMAGES = "The sample images"


@dataclass(frozen=True, kw_only=True, slots=True)
class Heading:
    """`subject`, `how` `model`: photographs labelled by avatars-10."""

    subject: str
    how: str
    model: str

    @property
    def plain(self) -> str:
        return f"{self.subject}, {self.how} {self.model}" if self.model else self.subject


def heading(run: Mapping[str, Any], task: Task | None, *, from_samples: bool) -> Heading:
    """Names the report after the last parts of its input and model. `run` is the content of run.json."""
    config = run.get("config", {})
    model = _last(str(config.get("model") or run.get("model_id") or ""))
    if from_samples:
        return Heading(subject="Samples", how="drawn and labelled by" if task else "drawn by", model=model)
    subject = _last(str(config["input"])) if config.get("input") else SAMPLE_IMAGES if config else "Run"
    return Heading(subject=subject, how="labelled by", model=model)


def commands(layout: RunLayout, run: Mapping[str, Any], task: Task | None) -> dict[str, Any]:
    """The variables `meanings` and `export_command` of the template."""
    config, place = run.get("config", {}), storage.redact(layout.output)
    from_samples = layout.table == "samples"
    source = "--samples" if from_samples else "--labels"
    model, input_uri = str(config.get("model") or "MODEL"), config.get("input")
    export = ("ddpm-seg", "export", source, place, "--config-hash", layout.config_hash)
    accepted = [(*export, "--only", "verdicts.csv", "--to", "png", "--output", "accepted")]
    if not from_samples:
        # A task of the user's own is in a file, whose name is not known here.
        name = task.name if task and task.name in TASKS else f"{task.name if task else 'task'}.yaml"
        images = ("--images", place, "--only", "verdicts.csv", "--task", name, "--output", "better")
        accepted.append(("ddpm-seg", "train", "--model", model, *images))
    label = ("ddpm-seg", "label", *(("--input", str(input_uri)) if input_uri else ()), "--output", place)
    again = [] if from_samples else [(*label, "--model", "better", "--redo", "verdicts.csv")]
    wrong = "The mask is wrong. It is left out of exports and trainings."
    return {
        "meanings": [
            ("Accept", "The mask is right. Accepted images can be exported and learnt from:", _lines(accepted)),
            ("Reject", wrong + (" Another model can try:" if again else ""), _lines(again)),
            ("Look again", "Not decided yet: no command takes it. Find these images with the filter Verdict.", []),
        ],
        "export_command": shlex.join(
            (
                *export,
                "--only",
                "selected.csv",
                "--to",
                "coco" if from_samples else "label-studio",
                "--output",
                "review",
            )
        ),
    }


def _lines(found: Sequence[tuple[str, ...]]) -> list[str]:
    return [shlex.join(words) for words in found]


def _last(uri: str) -> str:
    uri = storage.redact(uri)
    return PurePosixPath(uri.rstrip("/")).name or uri
