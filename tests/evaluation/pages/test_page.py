"""What all pages share: how numbers are written, long names in narrow windows, and what is printed on paper."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from ddpm_seg.evaluation.pages.page import share, short
from ddpm_seg.evaluation.pages.report import write_report
from ddpm_seg.tasks import Task
from tests.evaluation.pages import test_report

COLOURS = ((140, 20, 200), (10, 160, 90))
TASK = Task(name="long", class_names=("table/nightstand/dresser***top" * 2, "x" * 90), palette=COLOURS)


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(test_report, "TASK", TASK)
    test_report.write_run(tmp_path / "out", [test_report.ok_row(tmp_path, f"{'n' * 90}.png", 0.1)])
    return Path(write_report(str(tmp_path / "out"), "run-000001")).as_uri()


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.5, "0.5"), (999.4, "999"), (12345, "12.3k"), (999_600, "1M"), (999_400, "999k"), (999.6e6, "1G"), (2e6, "2M")],
)
def test_large_numbers_are_short(number: float, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize("number", [1, 0.99951, 0.9994, 0.0004, 0])
def test_nearly_all_is_not_all_and_nearly_none_is_not_none(number: float) -> None:
    assert (share(number) == "100.0 %") == (number == 1)
    assert (share(number) == "0.0 %") == (number == 0)


@pytest.mark.parametrize("width", [1280, 720, 400])
def test_long_names_stay_in_their_place(browser: Browser, report: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(report)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for row in page.locator(".areas .top").all():
        name, value = (row.locator("> span").nth(i).bounding_box() for i in range(2))
        assert name is not None
        assert value is not None
        assert name["x"] + name["width"] <= value["x"]
    for label in page.locator(".controls span").all():
        word, field = (label.locator(part).bounding_box() for part in ("label", "select"))
        assert word is not None
        assert field is not None
        assert word["x"] + word["width"] <= field["x"]
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_the_legend_has_its_colours_and_the_text_is_dark(browser: Browser, report: str, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(report)
    streams = re.findall(rb"stream\r?\n(.*?)endstream", page.pdf(), re.DOTALL)
    drawn = b"".join(zlib.decompress(stream) for stream in streams if stream[:1] == b"x")
    fills = [tuple(float(part) for part in fill.split()) for fill in re.findall(rb"([\d.]+ [\d.]+ [\d.]+) rg", drawn)]
    for colour in COLOURS:
        near = [fill for fill in fills if fill == pytest.approx([part / 255 for part in colour], abs=0.003)]
        assert len(near) == 2  # in the legend and in the areas; the tables of single images are folded
    assert any(fill == pytest.approx([0.1137, 0.1294, 0.149], abs=0.003) for fill in fills)  # --text of the light page
    page.emulate_media(media="print")
    assert not page.locator(".controls, .judging, .judge").filter(visible=True).count()
    page.close()
