"""The report in a browser: what a reviewer does with mouse and keyboard, and what a screen reader is told."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from ddpm_seg import storage
from ddpm_seg.data.inputs.verdicts import read_chosen
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.evaluation.pages.report import write_report
from ddpm_seg.json_text import json_file
from jobs.export import main
from tests.runs.nightly_runs import labelled, night
from tests.tiny_bundle import TASK

HOSTILE = "<img src=x onerror=alert(1)>.png"
# Name: uncertainty and classes. Two are of one class alone.
IMAGES: dict[str, tuple[float, tuple[int, ...]]] = {
    "img10.png": (0.4, (0, 1)),
    "img2.png": (0.9, (0, 2)),
    HOSTILE: (0.1, (3,)),
    "img1.png": (0.6, (0, 1, 2)),
}
UNLIKE = "img10.png"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("review")
    rows: dict[str, dict[str, Any]] = {"bad.png": {"error_type": "corrupt", "error_message": "<b>bytes</b>"}}
    for number, (name, (uncertainty, classes)) in enumerate(IMAGES.items()):
        doubt = np.full((24 * len(classes), 48), 255 - 40 * number, np.uint8)
        mask = np.repeat(np.array(classes, np.uint8), 24)[:, None].repeat(48, axis=1)
        image = np.full((*mask.shape, 3), 40 * number, np.uint8)
        storage.write_bytes(f"{folder}/{name}", encode_png(image))
        row = labelled(number, uncertainty, **{TASK.class_names[i]: 1 / len(classes) for i in classes})
        height, width = mask.shape
        rows[name] = {**row, "mask": {"bytes": encode_png(mask), "path": None}, "height": height, "width": width}
        rows[name]["domain_distance"] = 2.5 if name == UNLIKE else 1.0 - number / 10
        rows[name] |= {"confidence_map": {"bytes": encode_png(doubt), "path": None}, "network_mask": rows[name]["mask"]}
    run = night(folder / "out", 1, rows, prefix=str(folder))
    storage.write_bytes(run.layout.summary, json_file({"config_hash": "c"}))
    return Path(write_report(run.layout.output, "run-000001")).as_uri()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page; at the end nothing must have gone wrong in it, and no request must have left it."""
    contexts, problems, requests = [], [], []

    def go(uri: str, **options: Any) -> Page:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requests.append(request.url.partition("#")[0]))
        page.goto(uri)
        return page

    yield go
    for context in contexts:
        context.close()
    assert problems == []
    assert {url for url in requests if not url.startswith("data:")} <= {url for url in requests if url[:5] == "file:"}


@pytest.fixture
def page(open_page: Callable[..., Page], report: str) -> Page:
    return open_page(report)


def names(page: Page) -> list[str]:
    return [text.strip() for text in page.locator(".sheet > li:not([hidden]) .name").all_inner_texts()]


def opacity(page: Page, tile: int = 0) -> float:
    return float(page.locator(".sheet .layer").nth(tile).evaluate("layer => getComputedStyle(layer).opacity"))


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.closest('li')?.dataset.name ?? document.activeElement.tagName"))


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def test_the_most_uncertain_come_first_and_other_orders_are_to_be_had(page: Page) -> None:
    by_doubt = ["img2.png", "img1.png", "img10.png", HOSTILE]
    assert names(page) == by_doubt
    page.get_by_role("combobox", name="Sort").select_option("least uncertain first")
    assert names(page) == by_doubt[::-1]
    page.get_by_role("combobox", name="Sort").select_option("by name")
    assert names(page) == [HOSTILE, "img1.png", "img2.png", "img10.png"]


def test_images_with_a_class(page: Page) -> None:
    expect(page.locator("output")).to_have_text("4 of 4 images")
    page.get_by_role("combobox", name="Class").select_option(TASK.class_names[1])
    assert names(page) == ["img1.png", "img10.png"]
    expect(page.locator("output")).to_have_text("2 of 4 images")
    page.get_by_role("combobox", name="Class").select_option(TASK.class_names[4])
    assert names(page) == []
    page.get_by_role("combobox", name="Class").select_option("any")
    assert len(names(page)) == 4


def test_images_unlike_the_training_images(page: Page) -> None:
    expect(page.locator(".sheet > li", has_text="Unlike the training images (2.5)")).to_have_attribute(
        "data-name", UNLIKE
    )
    page.get_by_role("combobox", name="Images").select_option("like the training images")
    assert names(page) == ["img2.png", "img1.png", HOSTILE]
    page.get_by_role("combobox", name="Images").select_option("unlike the training images")
    assert names(page) == [UNLIKE]
    page.get_by_role("combobox", name="Images").select_option("any")
    page.get_by_role("combobox", name="Sort").select_option("least like the training images first")
    assert names(page) == [UNLIKE, "img2.png", HOSTILE, "img1.png"]


def test_masks_on_and_off_and_their_opacity(page: Page) -> None:
    assert opacity(page) == 0.5
    page.get_by_label("Masks").uncheck()
    assert opacity(page) == 0
    page.keyboard.press("o")
    assert opacity(page) == 0.5
    page.keyboard.press("+")
    assert opacity(page) == pytest.approx(0.6)
    page.get_by_label("Opacity").fill("100")
    assert opacity(page) == 1
    for _ in range(20):
        page.keyboard.press("-")
    assert opacity(page) == pytest.approx(0.1)


def test_a_mask_lies_on_its_image(page: Page) -> None:
    page.locator(".sheet .stack").first.click()
    for marked in (page.locator(".sheet .stack").first, dialog(page).locator(".stack").last):
        boxes = marked.locator("img:not(.heat)").evaluate_all(
            "images => images.map(image => JSON.stringify([image.getBoundingClientRect(), image.naturalWidth]))"
        )
        assert len(boxes) == 2
        assert boxes[0] == boxes[1]


def test_with_the_keyboard_alone(page: Page) -> None:
    page.keyboard.press("j")
    assert focused(page) == "img2.png"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert focused(page) == "img1.png"
    page.keyboard.press("Enter")
    expect(dialog(page)).to_be_visible()
    expect(dialog(page).get_by_role("heading")).to_have_text("img1.png")
    expect(dialog(page).get_by_role("row")).to_have_count(3)
    expect(dialog(page)).to_contain_text("33.3 %")
    assert dialog(page).locator(".layer:not(.heat)").count() == 1
    assert dialog(page).locator("img:not(.heat)").count() == 3  # the image, and again with its mask
    page.keyboard.press("ArrowRight")
    expect(dialog(page).get_by_role("heading")).to_have_text("img10.png")
    page.keyboard.press("Escape")
    expect(dialog(page)).to_be_hidden()
    expect(page.locator("li[data-name='img10.png'] .stack")).to_be_focused()  # once the dialog's own choice is past
    for _ in range(9):
        page.keyboard.press("j")
    assert focused(page) == HOSTILE


def verdicts(page: Page, tmp_path: Path) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save verdicts.csv").click()
    download.value.save_as(tmp_path / "verdicts.csv")
    with open(tmp_path / "verdicts.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_verdicts_are_kept_and_saved_as_a_file_that_the_jobs_take(
    page: Page, open_page: Callable[..., Page], report: str, tmp_path: Path
) -> None:
    expect(page.get_by_role("button", name="Save verdicts.csv")).to_be_disabled()
    tiles = page.locator(".sheet > li")
    tiles.nth(0).get_by_role("button", name="Reject").click()
    page.keyboard.press("j")
    page.keyboard.press("a")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    dialog(page).get_by_role("button", name="Accept").click()
    page.keyboard.press("l")  # changes the mind about the same image
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    expect(dialog(page).get_by_role("button", name="Accept")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(page.locator(".judged")).to_have_text("2 accepted, 1 rejected, 1 look again")
    page.reload()
    expect(page.locator(".judged")).to_have_text("2 accepted, 1 rejected, 1 look again")
    page.get_by_role("combobox", name="Verdict").select_option("look again")
    assert names(page) == ["img10.png"]
    folder = str(Path(report.removeprefix("file://")).parents[3])
    assert verdicts(page, tmp_path) == [
        {"uri": f"{folder}/{name}", "verdict": verdict, "run_id": "run-000001"}
        for name, verdict in (
            ("img2.png", "reject"),
            ("img1.png", "accept"),
            ("img10.png", "look again"),
            (HOSTILE, "accept"),
        )
    ]
    accepted = read_chosen(str(tmp_path / "verdicts.csv"), "accept")
    assert {f"{folder}/img1.png", f"{folder}/{HOSTILE}"} == set(accepted.names)
    assert (
        main(["--labels", f"{folder}/out", "--to=png", f"--only={tmp_path}/verdicts.csv", f"--output={tmp_path}/png"])
        == 0
    )
    assert len(list((tmp_path / "png/masks").iterdir())) == 2


def test_a_verdict_is_taken_back_by_giving_it_again(page: Page) -> None:
    page.keyboard.press("j")
    page.keyboard.press("r")
    expect(page.locator(".judged")).to_have_text("0 accepted, 1 rejected, 0 look again")
    page.keyboard.press("r")
    expect(page.locator(".judged")).to_have_text("No verdicts yet")


def test_selected_images_are_copied_and_saved_with_the_command_that_takes_them(
    open_page: Callable[..., Page], report: str, tmp_path: Path
) -> None:
    page = open_page(report, permissions=["clipboard-read", "clipboard-write"])
    page.keyboard.press("j")
    page.keyboard.press("s")
    page.locator(".sheet > li").nth(3).get_by_label("Select").check()
    expect(page.locator(".chosen")).to_have_text("2 selected")
    page.get_by_role("button", name="Copy list").click()
    expect(page.locator(".said")).to_have_text("Copied the list.")
    listed = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert [Path(uri).name for uri in listed] == ["img2.png", HOSTILE]
    page.get_by_role("button", name="Copy export command").click()
    expect(page.locator(".said")).to_contain_text("Copied the command")
    words = shlex.split(page.evaluate("navigator.clipboard.readText()"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save selected.csv").click()
    download.value.save_as(tmp_path / "selected.csv")
    words[words.index("selected.csv")] = str(tmp_path / "selected.csv")
    assert main([*words[2:-1], str(tmp_path / "review")]) == 0
    assert len(json.loads((tmp_path / "review/tasks.json").read_text())) == 2


def test_the_heat_map_lies_over_the_image_in_place_of_the_mask(page: Page) -> None:
    first = page.locator(".sheet .stack").first
    expect(first.locator(".heat")).to_be_hidden()
    page.keyboard.press("j")
    page.keyboard.press("h")
    assert focused(page) == "img2.png"  # the next key is still about this image
    expect(first.locator(".heat")).to_be_visible()
    expect(first.locator(".layer.before")).to_be_hidden()


def test_the_closer_look_lists_the_classes_by_area_and_links_to_the_image(page: Page) -> None:
    page.locator(".sheet .stack").first.click()
    pair, table = (dialog(page).locator(part).bounding_box() for part in (".pair", "table"))
    assert pair is not None
    assert table is not None
    assert table["x"] >= pair["x"] + pair["width"]
    assert dialog(page).get_by_role("link").get_attribute("href", timeout=1000).endswith("/img2.png")  # type: ignore[union-attr]


def test_with_the_mouse(page: Page) -> None:
    page.locator(".sheet .stack").nth(3).click()
    expect(dialog(page).get_by_role("heading")).to_have_text(HOSTILE)
    page.get_by_role("button", name="Close", exact=True).click()
    expect(dialog(page)).to_be_hidden()


def test_typing_in_a_field_is_no_command(page: Page) -> None:
    page.get_by_role("combobox", name="Sort").focus()
    page.keyboard.press("o")
    assert opacity(page) == 0.5


def test_a_link_keeps_what_is_shown(page: Page, open_page: Callable[..., Page]) -> None:
    page.get_by_role("combobox", name="Sort").select_option("by name")
    page.get_by_role("combobox", name="Class").select_option(TASK.class_names[2])
    page.get_by_label("Masks").uncheck()
    again = open_page(page.url)
    assert names(again) == names(page) == ["img1.png", "img2.png"]
    assert opacity(again) == 0
    nonsense = open_page(page.url.partition("#")[0] + "#sort=constructor&found=77&opacity=x")
    assert len(names(nonsense)) == 4


def test_without_scripts_everything_is_there(open_page: Callable[..., Page], report: str) -> None:
    page = open_page(report, java_script_enabled=False)
    assert len(names(page)) == 4
    expect(page.locator(".controls")).to_be_hidden()
    expect(page.locator(".judging")).to_be_hidden()
    expect(dialog(page)).to_be_hidden()
    expect(page.get_by_text("<b>bytes</b>")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_bars_a_screen_reader(open_page: Callable[..., Page], report: str, scheme: str) -> None:
    page = open_page(report, color_scheme=scheme)
    for _ in range(2):  # the sheet, then the dialog
        found = Axe().run(page)
        assert found.response["violations"] == [], found.generate_report()
        page.keyboard.press("j")
        page.keyboard.press("Enter")


def test_no_other_script_runs(browser: Browser, report: str) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(report)
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = true'}))"
        )
        assert page.evaluate("window.ran") is None
