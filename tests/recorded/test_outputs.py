"""Outputs of version 6f6d309 can be continued: same names, no work done twice, no row lost, wherever they stopped."""

from __future__ import annotations

import fcntl
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ddpm_seg import read_labels, storage
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.pipeline.generate.job import run_generate
from ddpm_seg.pipeline.generate.plan import plan_generate
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.job import run_label
from ddpm_seg.pipeline.label.plan import LabelPlan, plan_label
from ddpm_seg.runs.layout import uris_under
from ddpm_seg.runs.parquet import decode
from jobs import compact, export
from tests.recorded.recorded import FACTS, PREFIX, unpack, upload

LABELS, SAMPLES = FACTS["labels"], FACTS["samples"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(unpack("bundles", tmp_path_factory.mktemp("bundles")) / "ddpm-ensemble")


@pytest.fixture(scope="module")
def labels(s3_endpoint: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs on local disk; the pictures that they are of, where they stood."""
    folder = unpack("labels", tmp_path_factory.mktemp("labels"))
    upload(folder / "in", f"{PREFIX}/labels/in")
    storage.write_bytes(f"{PREFIX}/labels/list.txt", (folder / "list.txt").read_bytes())
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack("samples", tmp_path_factory.mktemp("samples"))


@pytest.fixture
def local_pictures(labels: Path) -> Iterator[None]:
    """Pictures on local disk, of whose path an output's row names are made: one place for all test runs, in turn."""
    place = Path(FACTS["local"]["folder"])
    with Path(f"{place}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(place, ignore_errors=True)
        try:
            shutil.copytree(labels / "local" / "in", place / "in")
            yield
        finally:
            shutil.rmtree(place, ignore_errors=True)


def label_config(name: str, model: str, output: Path) -> LabelConfig:
    return LabelConfig(model=model, output=str(output), **LABELS[name]["options"])


def published(output: Path, table: str, config_hash: str) -> pa.Table:
    """Every row ever published, the replaced ones too."""
    uris = uris_under(f"{output}/{table}/config={config_hash}")
    return pa.concat_tables([decode(storage.read_bytes(uri)) for uri in sorted(uris)])


def assert_kept(output: Path, before: Path) -> None:
    """What was published, and derived from it, stands as it did."""
    for path in before.glob("*/config=*/run=*/*.parquet"):
        assert (output / path.relative_to(before)).read_bytes() == path.read_bytes(), path


def pixels(row: dict[str, Any], column: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row[column]["bytes"])))


def has_nothing_left(plan: LabelPlan) -> None:
    assert plan.run.unfinished == []
    assert plan.run.new.num_rows == 0, plan.run.new["uri"].to_pylist()


@pytest.mark.parametrize("name", ["finished", "listed"])
def test_nothing_is_labelled_twice(labels: Path, model: str, name: str) -> None:
    plan = plan_label(label_config(name, model, labels / name))
    assert (plan.run.config_hash, plan.images) == (LABELS[name]["config_hash"], LABELS[name]["images"])
    has_nothing_left(plan)


def test_other_options_go_on_beside(labels: Path, model: str) -> None:
    plan = plan_label(label_config("stretched", model, labels / "finished"))
    assert plan.run.config_hash == LABELS["stretched"]["config_hash"] != LABELS["finished"]["config_hash"]
    assert (plan.run.already_done, plan.run.new.num_rows) == (LABELS["stretched"]["rows"], plan.images - 5)


def test_nothing_on_local_disk_is_labelled_twice(labels: Path, model: str, local_pictures: None) -> None:
    plan = plan_label(label_config("local", model, labels / "local" / "out"))
    assert (plan.run.config_hash, plan.images) == (LABELS["local"]["config_hash"], 4)
    has_nothing_left(plan)


def test_an_interrupted_label_run_is_finished(labels: Path, model: str, tmp_path: Path, ray_cluster: str) -> None:
    output, facts = Path(shutil.copytree(labels / "interrupted", tmp_path / "out")), LABELS["interrupted"]
    config = label_config("interrupted", model, output)
    plan = plan_label(config)
    assert (plan.run.config_hash, len(plan.run.unfinished), plan.run.new.num_rows) == (facts["config_hash"], 1, 0)
    run_label(config)
    has_nothing_left(plan_label(config))
    assert_kept(output, labels / "interrupted")
    assert not list(output.glob("_chunks/*"))
    assert (output / "runs/run-000002/report.html").exists()

    rows = published(output, "labels", facts["config_hash"])
    expected = published(labels / "finished", "labels", facts["config_hash"])
    assert names(rows) == names(expected)
    assert len(set(names(rows))) == rows.num_rows == LABELS["finished"]["images"] + 1  # one changed between the nights
    for row, reference in zip(rows.sort_by("uri").to_pylist(), expected.sort_by("uri").to_pylist(), strict=True):
        assert (row["status"], row["width"], row["height"]) == tuple(
            reference[key] for key in ("status", "width", "height")
        )
        if row["status"] == "ok" and row["etag"] == reference["etag"]:
            # Not every processor rounds alike: a pixel between two classes may change sides.
            assert (pixels(row, "mask") == pixels(reference, "mask")).mean() > 0.98, row["uri"]


def names(rows: pa.Table) -> list[tuple[str, str]]:
    """Which version of which image each row is of."""
    return sorted((row["uri"], row["etag"]) for row in rows.select(["uri", "etag"]).to_pylist())


def test_no_sample_is_drawn_twice(samples: Path, model: str) -> None:
    plan = plan_generate(
        GenerateConfig(model=model, output=str(samples / "finished"), **SAMPLES["finished"]["options"])
    )
    assert (plan.run.config_hash, plan.run.unfinished, plan.run.new.num_rows) == (
        SAMPLES["finished"]["config_hash"],
        [],
        0,
    )


def test_an_interrupted_generate_run_is_finished(samples: Path, model: str, tmp_path: Path, ray_cluster: str) -> None:
    output, facts = Path(shutil.copytree(samples / "interrupted", tmp_path / "out")), SAMPLES["interrupted"]
    config = GenerateConfig(model=model, output=str(output), **facts["options"])
    assert plan_generate(config).run.config_hash == facts["config_hash"]
    run_generate(config)
    assert_kept(output, samples / "interrupted")

    rows = published(output, "samples", facts["config_hash"]).sort_by("uri").to_pylist()
    expected = published(samples / "finished", "samples", facts["config_hash"]).sort_by("uri").to_pylist()
    assert [row["uri"] for row in rows] == [row["uri"] for row in expected]
    assert len({row["uri"] for row in rows}) == facts["options"]["num_samples"] == len(rows)
    for row, reference in zip(rows, expected, strict=True):
        difference = pixels(row, "image").astype(int) - pixels(reference, "image")
        assert np.abs(difference).max() <= 2  # of 255: rounding of another processor
        assert (pixels(row, "mask") == pixels(reference, "mask")).mean() > 0.95


def test_tables_are_read_compacted_and_exported(labels: Path, model: str, tmp_path: Path) -> None:
    facts, output = LABELS["finished"], str(labels / "finished")
    own = ["--config-hash", facts["config_hash"]]
    rows = read_labels(output, config_hash=facts["config_hash"])
    assert (rows.num_rows, len(set(rows["uri"].to_pylist()))) == (facts["images"], facts["images"])
    assert compact.main(["--labels", output, "--output", str(tmp_path / "compact"), *own]) == 0
    assert read_labels(str(tmp_path / "compact")).equals(rows)
    has_nothing_left(plan_label(label_config("finished", model, tmp_path / "compact")))
    arguments = ["--labels", output, "--output", str(tmp_path / "png"), "--to", "png", *own]
    assert export.main(arguments) == 0
    assert len(list((tmp_path / "png").rglob("*.png"))) >= rows["status"].to_pylist().count("ok")
