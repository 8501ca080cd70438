"""The page of a learning curve: its scores, and which class should gain most from more annotations."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from ddpm_seg.data.overlay import css_colours
from ddpm_seg.evaluation.pages.page import template
from ddpm_seg.evaluation.scores.expected_gains import ExpectedGain, most_first, sentence
from ddpm_seg.tasks import Task


def curve_page(
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    gains: Sequence[ExpectedGain],
    task: Task,
    *,
    images: str,
    splits: int,
    figure: bytes | None,
) -> str:
    """HTML with `curves`, by method, each a list of `shots`, `miou` and `deviation`, and the classes' `gains`.

    `figure` is a PNG, None without matplotlib.
    """
    shots = [point["shots"] for point in next(iter(curves.values()))]
    colours = dict(zip(task.class_names, css_colours(task.palette), strict=True))
    return template("curve.html").render(
        curves=curves,
        shots=shots,
        images=images,
        splits=splits,
        task=task.name,
        figure=None if figure is None else f"data:image/png;base64,{base64.b64encode(figure).decode()}",
        advice=sentence(gains, shots[-1]) if gains else None,
        gains=[{"colour": colours[one.class_name], "gain": one} for one in most_first(gains)],
    )
