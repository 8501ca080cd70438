from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddpm_seg.studies.results import (
    PLENTY,
    Result,
    as_markdown,
    scored,
    stored_result,
    summarise,
    write_result,
)
from ddpm_seg.tasks import Task


def result(method: str, split: str, miou: float, red: float) -> Result:
    return Result(method=method, split=split, settings={}, miou=miou, ious={"background": 0.5, "red": red})


def test_the_ignored_class_is_in_no_mean() -> None:
    task = Task(name="two", class_names=("a", "b"), palette=((0, 0, 0), (1, 1, 1)), ignore_label=0)
    confusion = np.array([[0, 2, 0], [1, 3, 0], [0, 0, 0]])
    assert scored("a", "b", {}, confusion, task).miou == pytest.approx(3 / 6)


def test_a_result_stands_for_its_own_settings_only(tmp_path: Path) -> None:
    uri = str(tmp_path / "results" / "a-1.json")
    assert stored_result(uri, {}) is None
    written = Result(method="a", split="1", settings={"steps": [1, 2]}, miou=0.25, ious={"red": 0.5})
    write_result(uri, written)
    assert stored_result(uri, {"steps": [1, 2]}) == written
    assert stored_result(uri, {"steps": [1, 3]}) is None
    for text in ("{}", "[1]", "{half"):
        Path(uri).write_text(text)
        with pytest.raises(ValueError, match=r"a-1\.json is not a result of a comparison"):
            stored_result(uri, {})


def test_the_upper_bound_has_its_own_row_though_it_has_as_few_images() -> None:
    rows = summarise([result("a", "1", 0.5, 0.2), result("a", "2", 0.7, 0.4), result("a", PLENTY, 0.9, 0.9)])
    assert [(row["splits"], row["miou"]["mean"]) for row in rows] == [(["1", "2"], pytest.approx(0.6)), ([PLENTY], 0.9)]


def test_means_and_deviations_over_splits() -> None:
    rows = summarise([result("a", "1", 0.5, 0.2), result("a", "2", 0.7, 0.4), result("b", "1", 0.1, 0.3)])
    assert [row["method"] for row in rows] == ["a", "b"]
    assert rows[0]["splits"] == ["1", "2"]
    assert rows[0]["miou"] == {"mean": pytest.approx(0.6), "deviation": pytest.approx(0.02**0.5)}
    assert rows[0]["ious"]["background"] == {"mean": 0.5, "deviation": 0}
    assert rows[1]["ious"]["red"] == {"mean": 0.3, "deviation": None}
    assert as_markdown(rows).splitlines() == [
        "|  | mIoU | background | red |",
        "| --- | --- | --- | --- |",
        "| a | 0.600 ± 0.141 | 0.50 ± 0.00 | 0.30 ± 0.14 |",
        "| b | 0.100 | 0.50 | 0.30 |",
    ]
