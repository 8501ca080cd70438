from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import ddpm_seg
from ddpm_seg import storage
from ddpm_seg.data.schema import samples_schema, uncertainty_map, uncertainty_of
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.evaluation.tables.curation import CurateConfig, curate
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.parquet import encode
from jobs.curate import main
from tests.tiny_bundle import TASK

SIZE = 8
LARGEST = math.log(TASK.num_classes)


def picture(pixels: np.ndarray) -> dict[str, Any]:
    return {"bytes": encode_png(pixels), "path": None}


def row(number: int, uncertainty: float, *, classes: int = 2, status: str = "ok") -> dict[str, Any]:
    """Left of the picture's middle nobody doubts; right of it all of `uncertainty`, one class."""
    doubt = np.zeros((SIZE, SIZE))
    doubt[:, SIZE // 2 :] = uncertainty
    values = {"image_id": f"id {number}", "uri": f"sample:0/{number:09d}", "seed": 0, "number": number}
    values |= {"status": status, "config_hash": "c"}
    if status != "ok":
        return values
    return values | {
        "uncertainty": uncertainty,
        "classes": [{"class_id": class_id} for class_id in range(classes)],
        "image": picture(np.full((SIZE, SIZE, 3), number % 256, np.uint8)),
        "mask": picture(np.full((SIZE, SIZE), number % TASK.num_classes, np.uint8)),
        "uncertainty_map": picture(uncertainty_map(doubt, TASK.num_classes)),
    }


def publish(output: Path, rows: list[dict[str, Any]], *, shard: int = 0, task: Any = TASK) -> None:
    layout = RunLayout(output=str(output), table="samples", config_hash="c", run_id="run-000001")
    storage.write_bytes(layout.shard(shard), encode(pa.Table.from_pylist(rows, schema=samples_schema(task))))


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Twenty of uncertainty 0.00, 0.01, ... 0.19, one of a single class, one error."""
    rows = [row(number, number / 100) for number in range(20)]
    publish(tmp_path / "out", rows[:7])
    publish(tmp_path / "out", [*rows[7:], row(20, 0.05, classes=1), row(21, 0, status="error")], shard=1)
    return tmp_path / "out"


def numbers(samples: Path, **how: Any) -> list[int]:
    return ddpm_seg.read_samples(str(samples), columns=["number"], **how)["number"].to_pylist()


def test_the_most_uncertain_tenth_and_what_shows_one_class_go(samples: Path) -> None:
    before = {file.uri: storage.read_bytes(file.uri) for file in storage.list_files(str(samples))}
    assert numbers(samples) == list(range(22))  # no rule yet
    found = curate(CurateConfig(samples=str(samples)))
    assert found.counts == {
        "samples": 22, "errors": 1, "one_class_only": 1, "too_certain": 0, "too_uncertain": 2, "kept": 18,
    }  # fmt: skip
    assert json.loads((samples / "curation.json").read_text()) == dataclasses.asdict(found)
    assert numbers(samples) == list(range(18))
    assert numbers(samples, curated=False) == list(range(22))
    assert all(storage.read_bytes(uri) == data for uri, data in before.items())
    whole = ddpm_seg.read_samples(str(samples))
    assert whole.num_rows == 18
    assert np.asarray(Image.open(io.BytesIO(whole["image"][5].as_py()["bytes"]))).max() == 5


def test_samples_drawn_later_are_judged_by_the_same_limits(samples: Path) -> None:
    curate(CurateConfig(samples=str(samples)))
    publish(samples, [row(30, 0.1), row(31, 0.18), row(32, 0.17, classes=1)], shard=2)
    assert numbers(samples) == [*range(18), 30]


def test_the_published_filter_drops_the_thirty_most_certain_too(tmp_path: Path) -> None:
    publish(tmp_path, [row(number, number / 1000) for number in range(100)])
    found = curate(CurateConfig(samples=str(tmp_path), published_filter=True))
    assert (found.counts["too_certain"], found.counts["too_uncertain"]) == (30, 10)
    assert numbers(tmp_path) == list(range(30, 90))


def test_the_published_share_includes_the_thirty_most_certain(tmp_path: Path) -> None:
    """The published slice of the samples sorted by uncertainty."""
    for count in (310, 400, 611):
        publish(tmp_path / str(count), [row(number, number / 1000) for number in range(count)])
        found = curate(CurateConfig(samples=str(tmp_path / str(count)), published_filter=True))
        share = int(count * 0.1)
        assert numbers(tmp_path / str(count)) == list(range(count))[30 : -share + 30]
        assert (found.counts["too_certain"], found.counts["too_uncertain"]) == (30, share - 30)


def test_pixels_of_high_disagreement_lose_their_class_if_asked(samples: Path) -> None:
    curate(CurateConfig(samples=str(samples), drop_uncertain=0, ignore_above=0.1))
    for columns in (["number", "mask"], None):
        rows = ddpm_seg.read_samples(str(samples), columns=columns)
        assert rows.column_names == (columns or samples_schema(TASK).names)
        for one in rows.to_pylist():
            mask = np.asarray(Image.open(io.BytesIO(one["mask"]["bytes"])))
            own = one["number"] % TASK.num_classes
            assert (mask[:, : SIZE // 2] == own).all()
            # Maps are stored in steps of ln(5) / 255 = 0.006 nats.
            if abs(one["number"] / 100 - 0.1) > 0.006:
                assert (mask[:, SIZE // 2 :] == (255 if one["number"] > 10 else own)).all()


def test_maps_keep_nats_to_half_a_step() -> None:
    nats = np.random.default_rng(0).uniform(0, LARGEST, (SIZE, SIZE))
    stored = uncertainty_map(nats, TASK.num_classes)
    np.testing.assert_allclose(uncertainty_of(stored, samples_schema(TASK)), nats, atol=LARGEST / 255 / 2 + 1e-9)


def test_the_command_says_what_is_kept(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--samples", str(samples)]) == 0
    shown = capsys.readouterr().out
    assert "kept                   18" in shown
    assert "kept: uncertainty 0 to 0.17 nats" in shown


def test_mistakes_are_one_message(samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--samples", str(tmp_path / "nowhere")]) == 2
    assert "no samples table under" in capsys.readouterr().err
    assert main(["--samples", str(samples), "--drop-uncertain", "0.96", "--published-filter"]) == 2
    assert "samples with several classes would be left" in capsys.readouterr().err
    unlabelled = [row(0, 0.1) | {"uncertainty": None, "classes": None, "mask": None, "uncertainty_map": None}]
    publish(tmp_path / "ddpm", unlabelled, task=None)
    assert main(["--samples", str(tmp_path / "ddpm")]) == 2
    assert "have no labels" in capsys.readouterr().err
    assert not (samples / "curation.json").exists()
    with pytest.raises(ValueError, match="--drop-uncertain must be at least 0"):
        CurateConfig(samples="x", drop_uncertain=1)
