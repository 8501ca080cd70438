from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser

from ddpm_seg import read_labels, storage
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.evaluation.pages.changes_page import write_changes_page
from ddpm_seg.evaluation.tables import changes as evaluation_changes
from ddpm_seg.evaluation.tables.changes import Changes, ChangesConfig, find_changes
from ddpm_seg.tasks import Task
from jobs.changes import main
from tests.runs.nightly_runs import labelled, night
from tests.tiny_bundle import TASK

NAMES = [f"{i:02d}.png" for i in range(12)]


def rows(names: list[str], seed: int, *, side: int = 10) -> dict[str, dict[str, Any]]:
    """Masks that differ from those of another seed at some pixels; of the last name at none."""
    made = {}
    for number, name in enumerate(names):
        mask = np.random.default_rng(number).integers(0, 3, (side, side), dtype=np.uint8)
        if name != NAMES[-1]:
            changed = np.random.default_rng(1000 * seed + number).random(mask.shape) < 0.02 * (number % 7 + 1)
            mask[changed] = 3 + seed % 2
        row = labelled(number, 0.1 * seed + 0.01 * number)
        size = {"width": side, "height": side}
        made[name] = {**row, **size, "mask": {"bytes": encode_png(mask), "path": None}}
    return made


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Model "a" labels in two nights, "b" in one, in other shards; each has images that the other has not."""
    out = str(tmp_path / "out")
    for name in NAMES:
        storage.write_bytes(f"{tmp_path}/in/{name}", encode_png(np.full((10, 10, 3), 90, np.uint8)))
    common: dict[str, Any] = {"prefix": f"{tmp_path}/in"}
    night(out, 1, {**rows(NAMES[:8], 5), "bad.png": {"error_type": "empty"}}, config_hash="a", **common)
    night(out, 2, rows(NAMES, 1), config_hash="a", **common)
    later = {**rows(NAMES, 2), "new.png": rows(["x"], 3)["x"], "bad.png": rows(["x"], 3)["x"]}
    del later[NAMES[0]]
    later[NAMES[1]] = rows([NAMES[1]], 2, side=11)[NAMES[1]]
    night(out, 3, later, config_hash="b", shard_size=5, **common)
    return out


def masks(output: str, config_hash: str) -> dict[str, np.ndarray]:
    table = read_labels(output, config_hash=config_hash).to_pylist()
    return {
        row["uri"]: np.asarray(Image.open(io.BytesIO(row["mask"]["bytes"]))) for row in table if row["status"] == "ok"
    }


def test_changes_are_those_of_a_plain_comparison(output: str) -> None:
    found = find_changes(ChangesConfig(labels=output))
    before, after = masks(output, "a"), masks(output, "b")
    both = [uri for uri in before.keys() & after.keys() if before[uri].shape == after[uri].shape]
    assert (found.before, found.after, found.images, found.replaced) == ("a", "b", len(both), 1)
    assert (found.only_before, found.only_after) == (
        len(before.keys() - after.keys()),
        len(after.keys() - before.keys()),
    )
    shares = {uri: float((before[uri] != after[uri]).mean()) for uri in both}
    assert found.unchanged == sum(share == 0 for share in shares.values()) == 1
    assert found.share == pytest.approx(np.mean(list(shares.values())))
    pixels = np.zeros((256, 256), np.int64)
    for uri in both:
        np.add.at(pixels, (before[uri], after[uri]), 1)
    assert np.array_equal(found.pixels, pixels)
    assert {one.uri: one.share for one in found.most} == pytest.approx({uri: s for uri, s in shares.items() if s})
    assert [one.share for one in found.most] == sorted((one.share for one in found.most), reverse=True)
    uncertainty = {row["uri"]: row["uncertainty"] for row in read_labels(output, config_hash="a").to_pylist()}
    assert found.uncertainty[0] == pytest.approx(sum(uncertainty[uri] for uri in both))


def test_only_the_most_changed_are_kept(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = find_changes(ChangesConfig(labels=output)).most
    monkeypatch.setattr(evaluation_changes, "SHOWN", 3)
    assert find_changes(ChangesConfig(labels=output)).most == everything[:3]


def test_backwards_it_is_the_reverse(output: str) -> None:
    found, back = (find_changes(ChangesConfig(labels=output, before=a, after=b)) for a, b in ("ab", "ba"))
    assert np.array_equal(found.pixels, back.pixels.T)
    assert (found.only_before, found.uncertainty) == (back.only_after, back.uncertainty[::-1])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--before=b", "--after=b"], "both b"),
        (["--before=x"], "of the configurations b, a; not of x"),
        (["--after=a"], "none older than a to compare it with"),
        (["--labels=nowhere"], "no labels table"),
    ],
)
def test_wrong_use(output: str, capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    try:
        status: object = main([f"--labels={output}", *flags])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in capsys.readouterr().err


def test_models_of_different_classes(output: str, tmp_path: Path) -> None:
    other = Task(name="other", class_names=("x", "y"), palette=((0, 0, 0), (1, 1, 1)))
    night(output, 4, rows(NAMES, 2), config_hash="c", task=other)
    with pytest.raises(ValueError, match="different classes"):
        find_changes(ChangesConfig(labels=output))


def test_the_page_in_a_browser(output: str, browser: Browser, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--labels={output}"]) == 0
    assert "before a, after b: 10 images compared, 1 unchanged" in capsys.readouterr().out
    page = browser.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(Path(f"{output}/changes-a-b.html").as_uri())
    layers = page.locator(".sheet > li").first.locator(".layer")

    def shown() -> list[bool]:
        return [layer.is_visible() for layer in layers.all()]

    assert shown() == [True, False]
    page.keyboard.press("m")
    assert shown() == [False, True]
    page.get_by_label("before").check()
    assert shown() == [True, False]
    shares = [float(text.split()[0]) for text in page.locator(".sheet .value").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 9
    page.get_by_role("combobox", name="Sort").select_option("by name")
    assert page.locator(".sheet .name").first.inner_text() == NAMES[2]
    page.keyboard.press("Escape")
    page.locator(".sheet .stack").first.click()
    assert page.get_by_role("dialog").locator(".layer").count() == 2
    dialog = page.get_by_role("dialog")
    assert dialog.locator(".panel").all_inner_texts() == ["before: m, a", "after: m, b", "difference"]
    found = Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
    assert problems == []
    page.close()


def test_the_difference_shows_without_scripts(output: str, browser: Browser) -> None:
    assert main([f"--labels={output}"]) == 0
    page = browser.new_page(java_script_enabled=False)
    page.goto(Path(f"{output}/changes-a-b.html").as_uri())
    tile = page.locator(".sheet > li").first
    assert [one.is_visible() for one in tile.locator("img").all()] == [True, False, False, True, True, True]
    assert page.locator("h1").inner_text() == "What changed from m, a to m, b"
    page.close()


def test_nothing_has_changed(tmp_path: Path) -> None:
    same = Changes(before="a", after="b", task=TASK, images=3, unchanged=3)
    write_changes_page(same, str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text()
    assert "No mask has changed." in text
    assert "<script>" not in text
