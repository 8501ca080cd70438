from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from ddpm_seg.evaluation.tables.selection import Selection, select
from ddpm_seg.runs.parquet import open_parquet
from ddpm_seg.runs.view import read_labels
from tests.runs.nightly_runs import labelled, night
from tests.tiny_bundle import TASK

A, B, C = TASK.class_names[:3]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three nights, of which each labels images of earlier ones anew; class C is rare."""
    folder = tmp_path_factory.mktemp("labels")
    generator = random.Random(0)
    for number in range(1, 4):
        images: dict[str, dict[str, Any]] = {}
        for name in sorted(generator.sample([f"{i:02d}.png" for i in range(30)], 15)):
            parts = {A: 0.5, (C if generator.random() < 0.3 else B): 0.5}
            doubt = round(generator.random(), 1)  # ties among them
            images[name] = labelled(number, doubt, **parts) if generator.random() < 0.8 else {"error_type": "empty"}
        night(folder, number, images, shard_size=4)
    return folder


def uris(selection: Selection) -> list[str]:
    found = []
    for shard, rows in selection.shards:
        with open_parquet(shard) as file:
            found += file.read(columns=["uri"])["uri"].take(rows).to_pylist()
    assert len(found) == selection.images
    return sorted(found)


def test_everything_that_is_labelled_now(output: Path) -> None:
    selection, rows = select(str(output)), read_labels(str(output)).to_pylist()
    assert uris(selection) == [row["uri"] for row in rows if row["status"] == "ok"]
    assert (selection.errors, selection.others) == (sum(row["status"] == "error" for row in rows), 0)
    assert selection.task == TASK


@pytest.mark.parametrize("bounds", [(0.3, None), (None, 0.5), (0.2, 0.8), (2.0, None)])
@pytest.mark.parametrize("classes", [(), (C,), (B, C)])
def test_bounds_and_classes(output: Path, bounds: tuple[float | None, float | None], classes: tuple[str, ...]) -> None:
    least, most = bounds
    rows = read_labels(str(output)).to_pylist()
    expected = [
        row["uri"]
        for row in rows
        if row["status"] == "ok"
        and (least is None or row["uncertainty"] >= least)
        and (most is None or row["uncertainty"] <= most)
        and (not classes or {one["class_name"] for one in row["classes"]} & set(classes))
    ]
    selection = select(str(output), classes=classes, min_uncertainty=least, max_uncertainty=most)
    assert uris(selection) == expected
    assert selection.images + selection.others == sum(row["status"] == "ok" for row in rows)


@pytest.mark.parametrize("count", [1, 5, 1000])
def test_the_most_uncertain_of_those(output: Path, count: int) -> None:
    rows = {row["uri"]: row["uncertainty"] for row in read_labels(str(output)).to_pylist()}
    among = uris(select(str(output), classes=(B,)))
    chosen = uris(select(str(output), classes=(B,), most_uncertain=count))
    assert len(chosen) == min(count, len(among))
    left = set(among) - set(chosen)
    assert set(chosen) <= set(among)
    assert min(rows[uri] for uri in chosen) >= max((rows[uri] for uri in left), default=0)


def test_an_unknown_class_is_named_with_those_there_are(output: Path) -> None:
    with pytest.raises(ValueError, match="'hat': tiny-5 has the classes 'background', 'red'"):
        select(str(output), classes=("hat",))
