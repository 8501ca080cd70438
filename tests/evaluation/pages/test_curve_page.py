"""The page of a learning curve in a browser: which class needs annotations next, and the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from ddpm_seg.evaluation.pages.curve_page import curve_page
from ddpm_seg.evaluation.scores.expected_gains import expected_gain, most_first, sentence
from ddpm_seg.studies.figures import curve_figure
from tests.tiny_bundle import TASK


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_says_which_class_to_annotate_next(tmp_path: Path, browser: Browser, scheme: Any) -> None:
    points = [{"shots": shots, "miou": score, "deviation": 0.01} for shots, score in ((5, 0.4), (20, 0.6))]
    curves = {"this model": points, "RGB + coordinates": [{**one, "deviation": None} for one in points]}
    rng = np.random.default_rng(0)
    gains = [
        expected_gain(name, (5, 20), np.sort(rng.random((3, 2))), pixels=1000, images=4) for name in TASK.class_names
    ]
    figure = curve_figure(curves, "shots", "annotated images to train on")["png"]
    html = curve_page(curves, gains, TASK, images="/a/folder", splits=3, figure=figure)
    (tmp_path / "page.html").write_text(html)
    page = browser.new_page(color_scheme=scheme, viewport={"width": 400, "height": 900})
    page.goto((tmp_path / "page.html").as_uri())
    assert sentence(gains, 20) in page.locator("#next ~ p").first.inner_text()
    heads = page.locator("#next ~ .scroll th[scope=col]").all_inner_texts()
    assert heads[1:3] == ["IoU with 20 images", "Expected gain with 40"]
    names = [name.strip() for name in page.locator("#next ~ .scroll th[scope=row]").all_inner_texts()]
    assert names == [one.class_name for one in most_first(gains)]
    assert page.locator("#curve ~ img").evaluate("img => img.naturalWidth") > 100
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    found = Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
    page.close()
