from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ddpm_seg.studies import figures
from ddpm_seg.studies.corruptions import figure as corruptions
from ddpm_seg.studies.corruptions.table import Score
from ddpm_seg.studies.probe import figure as probe
from ddpm_seg.studies.probe.table import Row


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved, drawn."""
    found: list[Any] = []

    def keep(figure: Any) -> dict[str, bytes]:
        FigureCanvasAgg(figure).draw()
        found.append(figure)
        return {}

    for module in (figures, corruptions, probe):
        monkeypatch.setattr(module, "saved", keep)
    return found


def scores_of(models: int, kinds: int) -> list[Score]:
    return [
        Score(
            model=f"stable-diffusion-2-1-base-converted-{model}",
            kind=kind,
            severity=severity,
            miou=0.9 - severity / 10,
            deviation=0.01,
            relative_drop=0.1,
            drop_deviation=0.01,
            domain_distance=1.0 + severity + model / 10,
        )
        for model in range(models)
        for kind, severity in [("clean", 0), *((f"kind_{i}", severity) for i in range(kinds) for severity in (1, 5))]
    ]


def test_lines_differ_without_colours() -> None:
    looks = {(look["marker"], look["linestyle"]) for look in map(figures.line, range(28))}
    assert len(looks) == 28


@pytest.mark.parametrize("models", [1, 6])
@pytest.mark.parametrize("kinds", [1, 7])
@pytest.mark.parametrize("draw", [corruptions.curves, corruptions.against_distance])
def test_a_legend_is_whole_and_covers_nothing(draw: Any, models: int, kinds: int, drawn: list[Any]) -> None:
    draw(scores_of(models, kinds), "/a/very/long/way/to/a/folder/of/tasks/and/still/further/task.yaml")
    (figure,) = drawn
    (legend,) = figure.legends
    inside = legend.get_window_extent()
    assert 0 <= inside.x0 < inside.x1 <= figure.bbox.width
    assert 0 <= inside.y0 < inside.y1 <= figure.bbox.height
    shown = [axes for axes in figure.axes if axes.axison]
    texts = [axes.xaxis.get_tightbbox() for axes in shown] + [axes.bbox for axes in shown]
    assert not any(inside.overlaps(box) for box in texts if box is not None)
    title = figure._suptitle.get_window_extent()
    assert 0 <= title.x0 < title.x1 <= figure.bbox.width
    assert len({axes.get_xlabel() for axes in shown[-min(5, kinds) :]} - {""}) == 1


@pytest.mark.parametrize("numbers", [[5, 10, 20, 40, 80], range(5, 105, 5), [12000, 15000, 20000, 100000], [20]])
def test_numbers_on_an_axis_do_not_overlap(numbers: Any, drawn: list[Any]) -> None:
    points = [{"shots": number, "miou": 0.5, "deviation": 0.01} for number in numbers]
    figures.curve_figure({"this model": points}, "shots", "annotated images to train on")
    labels = [label for label in drawn[0].axes[0].get_xticklabels() if label.get_text()]
    assert len(labels) >= min(5, len(points)) - 1
    assert labels[-1].get_text().replace("\u202f", "") == str(max(numbers))
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize("blocks", [2, 18])
@pytest.mark.parametrize("spread", [0, 0.01, 0.5])
def test_every_number_of_a_heat_map_can_be_read(blocks: int, spread: float, drawn: list[Any]) -> None:
    rows = [
        Row(step=None, block=i, miou=0.1 + spread * i / blocks, deviation=None, small=0.0, large=0.3)
        for i in range(blocks)
    ]
    probe.heat_maps(rows, "/bundles/model: task")
    for axes in drawn[0].axes:
        (picture,) = axes.images
        for text, value in zip(axes.texts, picture.get_array().ravel(), strict=True):
            brightness = np.dot(picture.to_rgba(np.array([value]))[0, :3], (0.299, 0.587, 0.114))
            assert abs(brightness - (text.get_color() == "white")) > 0.4
    lightest = [np.ptp(axes.images[0].norm(axes.images[0].get_array())) for axes in drawn[0].axes]
    assert lightest[0] == pytest.approx(min(1, spread * (blocks - 1) / blocks / figures.LEAST_SPAN), abs=1e-6)


@pytest.mark.parametrize(("scores", "span"), [((0.613, 0.594, 0.604), figures.LEAST_SPAN), ((0.2, 0.5, 0.8), 0.6)])
def test_noise_does_not_look_like_a_trend(
    scores: tuple[float, ...], span: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(figures, "saved", lambda figure: drawn.append(figure) or {})
    points = [{"samples": 10**n, "miou": score, "deviation": None} for n, score in enumerate(scores, start=1)]
    figures.curve_figure({"": points}, "samples", "samples to learn from")
    low, high = drawn[0].axes[0].get_ylim()
    assert high - low == pytest.approx(span, rel=0.15)
    assert low < min(scores) < max(scores) < high
