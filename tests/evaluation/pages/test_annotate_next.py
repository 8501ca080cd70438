"""The page of the images to annotate next: what to do with them, by one command that works."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from ddpm_seg import storage
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.evaluation.pages.annotate_next import write_active
from jobs.export import main
from tests.runs.nightly_runs import labelled, night
from tests.tiny_bundle import TASK


def test_the_command_exports_the_chosen_images(tmp_path: Path, browser: Browser) -> None:
    rows: dict[str, dict[str, Any]] = {}
    for number in range(4):
        mask = encode_png(np.full((10, 10), number, np.uint8))
        storage.write_bytes(f"{tmp_path}/in/{number}.png", encode_png(np.zeros((10, 10, 3), np.uint8)))
        row = labelled(number, 0.1 * number, **{TASK.class_names[number]: 1.0})
        rows[f"{number}.png"] = {**row, "mask": {"bytes": mask, "path": None}}
    labels = f"{tmp_path}/my labels"
    night(labels, 1, rows, prefix=f"{tmp_path}/in")
    chosen = write_active(labels, 2, config_hash="c")
    page = browser.new_page(java_script_enabled=False)
    page.goto(Path(f"{labels}/annotate_next.html").as_uri())
    words = shlex.split(page.locator(".command").inner_text())
    page.close()
    assert words[:2] == ["ddpm-seg", "export"]
    assert main([*words[2:-1], f"{tmp_path}/out"]) == 0
    tasks = json.loads((tmp_path / "out/tasks.json").read_text())
    assert len(tasks) == len(chosen) == 2
    page = browser.new_page()
    page.goto(Path(f"{labels}/annotate_next.html").as_uri())
    found = Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
    page.close()
