from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.tables import encode
from ddpm_seg.runs.view import read_labels


def publish(output: Path, number: int, names: str, *, config: str = "c", shard: int = 0) -> None:
    layout = RunLayout(output=str(output), table="labels", config_hash=config, run_id=f"run-{number:06d}")
    columns = {"image_id": [f"id {n}" for n in names], "uri": list(names), "run": [number] * len(names)}
    storage.write_bytes(layout.shard(shard), encode(pa.table(columns)))


def view(output: Path, **options: str) -> dict[str, int]:
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
    with pytest.raises(FileNotFoundError, match="for config other"):
        read_labels(str(tmp_path), config_hash="other")
