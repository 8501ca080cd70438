"""The evaluation page in a browser: its pictures are labelled and sharp, and it says what the model was trained on."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from ddpm_seg.evaluation.pages.evaluation_page import evaluation_page
from ddpm_seg.evaluation.scores.miou import confusion_matrix
from ddpm_seg.evaluation.scores.score_labels import Scored
from ddpm_seg.studies.evaluate import summarise
from ddpm_seg.tasks import UNLABELLED
from tests.tiny_bundle import TASK


def scored(name: str, size: int = 24) -> Scored:
    target = np.zeros((size, size), np.uint8)
    target[size // 2 :] = 1
    predicted = np.roll(target, 2, axis=0)
    return Scored(
        uri=f"/a/very/long/way/to/a/folder/of/annotated/photographs/{name}",
        image=np.full((size, size, 3), 90, np.uint8),
        target=target,
        predicted=predicted,
        uncertainty=0.2,
        confusion=confusion_matrix(predicted, target, TASK.num_classes),
        pixels=target.size,
        wrong=int((target != predicted).sum()),
    )


def page_of(folder: Path, *images: Scored, seen: int | None = 0) -> str:
    own: dict[str, Any] = {"miou": 0.5, "boundary_iou_2px": None, "classes": [], "confidence": None}
    about = {"model_id": "m", "task": TASK.name, "annotations": "/in", "images": len(images), "own_size": own}
    found = {**summarise(images, TASK), **about, "learnt_from": {"images": seen, "without": None}}
    (folder / "page.html").write_text(evaluation_page(found, images, TASK))
    return (folder / "page.html").as_uri()


@pytest.mark.parametrize("width", [1280, 400])
def test_each_picture_is_named_and_its_pixels_are_sharp(tmp_path: Path, browser: Browser, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, java_script_enabled=False)
    page.goto(page_of(tmp_path, scored("a.png"), scored("large.png", 400)))
    for tile, rendering in ((0, "pixelated"), (1, "auto")):
        panels = page.locator(".sheet > li").nth(tile).locator(".panel")
        assert panels.all_inner_texts() == ["image", "annotated", "predicted", "wrong"]
        assert panels.first.locator("img").evaluate("img => getComputedStyle(img).imageRendering") == rendering
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


def test_sentences_have_spaces_between_them(tmp_path: Path, browser: Browser) -> None:
    page = browser.new_page(java_script_enabled=False)
    few = [dataclasses.replace(scored(f"{i}.png"), uncertainty=i / 10, wrong=10 * i) for i in range(4)]
    page.goto(page_of(tmp_path, *few))
    text = page.locator("#calibration ~ p").inner_text()
    assert "Rank correlation" in text
    assert "Mean over all bars" in text
    assert not re.findall(r"\S*[a-z0-9]\.[A-Z]\S*", text)
    page.close()


def test_pixels_without_a_class_are_a_confusion_too(tmp_path: Path, browser: Browser) -> None:
    right = scored("a.png")
    predicted = np.where(right.target == 0, UNLABELLED, right.target).astype(np.uint8)
    one = dataclasses.replace(
        right, predicted=predicted, confusion=confusion_matrix(predicted, right.target, TASK.num_classes)
    )
    page = browser.new_page(java_script_enabled=False)
    page.goto(page_of(tmp_path, one))
    (row,) = page.locator("#confusions ~ .scroll tbody tr").all()
    assert row.inner_text().split("\t") == [TASK.class_names[0], "no class", "288", "100.0 %"]
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_bars_a_screen_reader(tmp_path: Path, browser: Browser, scheme: Any) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(page_of(tmp_path, scored("a.png"), seen=1))
    found = Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
    page.close()


def test_a_banner_says_that_training_images_were_scored(tmp_path: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(page_of(tmp_path, scored("a.png"), scored("b.png"), seen=2))
    banner = page.locator("section.warning")
    expect(banner.get_by_role("heading")).to_have_text("Scored on images that the model was trained on")
    expect(banner).to_contain_text("2 of these 2 images")
    page.goto(page_of(tmp_path, scored("a.png"), seen=None))
    expect(page.locator("section.warning")).to_have_count(0)
    expect(page.get_by_text("does not say which images it was trained on")).to_be_visible()
    page.goto(page_of(tmp_path, scored("a.png"), seen=0))
    expect(page.locator("#learnt")).to_have_count(0)
    page.close()
