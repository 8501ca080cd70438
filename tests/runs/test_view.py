from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.runs import view as runs_view
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.parquet import encode
from ddpm_seg.runs.view import read_labels


def publish(output: Path, number: int, names: str, *, config: str = "c", shard: int = 0) -> None:
    layout = RunLayout(output=str(output), table="labels", config_hash=config, run_id=f"run-{number:06d}")
    columns = {"image_id": [f"id {n}" for n in names], "uri": list(names), "run": [number] * len(names)}
    storage.write_bytes(layout.shard(shard), encode(pa.table(columns)))


def view(output: Path, **options: Any) -> dict[str, int]:
    rows = read_labels(str(output), **options).to_pylist()
    assert len({row["uri"] for row in rows}) == len(rows)
    return {row["uri"]: row["run"] for row in rows}


def test_each_image_once_from_its_latest_run(tmp_path: Path) -> None:
    publish(tmp_path, 2, "bd", shard=1)
    publish(tmp_path, 2, "x")
    publish(tmp_path, 1, "abc")
    publish(tmp_path, 10, "b")
    assert view(tmp_path) == {"a": 1, "b": 10, "c": 1, "d": 2, "x": 2}
    assert list(view(tmp_path)) == sorted(view(tmp_path))


def test_some_images_only_and_no_other_shards_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, 1, "abc")
    publish(tmp_path, 1, "def", shard=1)
    publish(tmp_path, 2, "cx")
    read, opened = runs_view._read, []
    monkeypatch.setattr(runs_view, "_read", lambda uri, columns: (columns or opened.append(uri), read(uri, columns))[1])
    assert view(tmp_path, image_ids=["id x", "id e", "id c", "id nowhere"]) == {"c": 2, "e": 1, "x": 2}
    assert len(opened) == 2
    assert view(tmp_path, image_ids=["id nowhere"]) == {}


def test_many_rows_of_several_runs_stand_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddpm_seg.runs.view.BLOCK_ROWS", 7)
    generator = random.Random(0)
    names = [chr(0x4E00 + i) for i in range(200)]
    expected: dict[str, int] = {}
    for number in range(1, 6):
        drawn = sorted(generator.sample(names, 60))
        for shard in range(3):
            publish(tmp_path, number, "".join(drawn[20 * shard : 20 * shard + 20]), shard=shard)
        expected |= dict.fromkeys(drawn, number)
    assert view(tmp_path) == expected
    assert list(view(tmp_path)) == sorted(expected)


@pytest.mark.slow  # gigabytes
def test_more_than_two_gigabytes_of_masks(tmp_path: Path) -> None:
    names = [f"{i:03}" for i in range(600)]
    for number in (1, 2):  # every other row is the second run's
        layout = RunLayout(output=str(tmp_path), table="labels", config_hash="c", run_id=f"run-{number:06d}")
        for shard in range(3):
            mine = names[200 * shard + number - 1 : 200 * (shard + 1) : 2]
            masks = pa.array([name.encode() + bytes(4_000_000) for name in mine], pa.binary())
            table = pa.table({"image_id": mine, "uri": mine, "mask": masks})
            storage.write_bytes(layout.shard(shard), encode(table))
    table = read_labels(str(tmp_path))
    assert table["uri"].to_pylist() == names
    assert [bytes(table["mask"][row].as_buffer()[:3]).decode() for row in range(600)] == names


def test_models_are_not_mixed(tmp_path: Path) -> None:
    publish(tmp_path, 1, "ab", config="old")
    publish(tmp_path, 2, "b", config="new")
    assert view(tmp_path) == {"b": 2}
    assert view(tmp_path, config_hash="old") == {"a": 1, "b": 1}


def test_columns_are_those_asked_for(tmp_path: Path) -> None:
    publish(tmp_path, 1, "ab")
    assert read_labels(str(tmp_path), columns=["uri"]).to_pylist() == [{"uri": "a"}, {"uri": "b"}]


def test_nothing_published(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no labels table"):
        read_labels(str(tmp_path))
    publish(tmp_path, 1, "a")
    with pytest.raises(FileNotFoundError, match="of configuration other"):
        read_labels(str(tmp_path), config_hash="other")
