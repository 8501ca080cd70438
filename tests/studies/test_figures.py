from __future__ import annotations

import pytest

from ddpm_seg.studies import figures


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
