"""The page of an exploration in a browser: readable on a phone and by a screen reader, without scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from ddpm_seg.evaluation.pages.explore_page import Explored, explore_page
from tests.tiny_bundle import TASK


def page_of(folder: Path) -> str:
    explored = []
    for name, size in (("small.png", 24), ("large.png", 400)):
        mask = np.zeros((size, size), np.uint8)
        mask[size // 2 :] = 1
        mask[: size // 4, : size // 4] = 2
        image = np.full((size, size, 3), 90, np.uint8)
        uri = f"/a/very/long/way/to/a/folder/of/photographs/{name}"
        explored.append(Explored(uri=uri, image=image, mask=mask, width=size, height=size))
    html = explore_page(explored, TASK, model="/bundles/m", output="/out put", steps=[50], blocks=[3, 4])
    (folder / "page.html").write_text(html)
    return (folder / "page.html").as_uri()


@pytest.mark.parametrize("width", [1280, 400])
def test_every_cluster_is_shown_with_what_has_most_of_it(tmp_path: Path, browser: Browser, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, java_script_enabled=False)
    page.goto(page_of(tmp_path))
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("#clusters ~ h3").all_inner_texts() == [
        TASK.class_names[i] for i in (1, 0, *range(2, TASK.num_classes))
    ]
    assert page.locator(".legend li").all_inner_texts() == list(TASK.class_names)
    assert page.locator(".examples").first.locator("img").count() == 2
    assert page.locator(".examples").last.locator("img").count() == 0  # nothing is in the last cluster
    assert "--images '/out put'" in page.locator(".command").inner_text()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_bars_a_screen_reader(tmp_path: Path, browser: Browser, scheme: Any) -> None:
    page = browser.new_page(color_scheme=scheme, viewport={"width": 400, "height": 900})
    page.goto(page_of(tmp_path))
    found = Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
    page.close()
