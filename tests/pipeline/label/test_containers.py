"""Images in containers, of a kind that only tests have, through every job that touches images.

The stages run in this process: Ray's workers would not know the kind.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddpm_seg
from ddpm_seg.cluster.nodes import Allocation
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.image_set import load_images
from ddpm_seg.data.inputs import sources
from ddpm_seg.evaluation.tables.export import export
from ddpm_seg.evaluation.tables.export_config import ExportConfig
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.pipeline import execute, job
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.job import LabelSummary, run_label
from ddpm_seg.pipeline.label.plan import plan_label
from ddpm_seg.pipeline.publish import Shards
from ddpm_seg.pipeline.row import Row
from ddpm_seg.pipeline.stream import Stages, result
from ddpm_seg.runs.planned import PlannedRun
from ddpm_seg.runs.view import read_labels
from tests.data.inputs.zip_kind import ZIP, zip_of
from tests.tiny_bundle import TASK, tiny_bundle

COLUMNS = ["uri", "etag", "size_bytes", "status", "error_type", "error_message", "mask"]


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


INSIDE = {"1.png": png(1), "cats/2.png": png(2), "#3.png": png(3), "bad.png": b"no picture"}


@pytest.fixture(autouse=True)
def _zip_is_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "KINDS", (ZIP,))


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(rows: Iterable[Row], stages: Stages, *_: object, may_be_lost: int) -> Iterator[Row]:
        *_, run = _
        assert isinstance(run, PlannedRun)
        actor = stages.actor(**stages.actor_arguments)
        for row in rows:
            row = actor(stages.before(row))
            yield result(row, stages.after(row), run)

    here = Allocation(actors=1, actor_cpus=1, actor_gpus=0, threads=1, task_cpus=0.5)
    monkeypatch.setattr(job, "_allocate", lambda work: here)
    monkeypatch.setattr(execute, "stream", stream)
    monkeypatch.setattr(Shards, "_publish", lambda self, shard: self._note(shard, self._settle(shard)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.zip").write_bytes(zip_of({**INSIDE, "notes.txt": b"no image"}))
    (folder / "b.png").write_bytes(png(4))
    (folder / "broken.zip").write_bytes(b"no archive")
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    return folder


def label(folder: Path, **options: object) -> LabelSummary:
    return run_label(config_of(folder, **options))


def config_of(folder: Path, **options: object) -> LabelConfig:
    places = {"input": str(folder), "output": str(folder.parent / "out"), "model": str(folder.parent / "model")}
    return LabelConfig(**{**places, **options})  # type: ignore[arg-type]


def rows_of(folder: Path) -> dict[str, dict[str, object]]:
    rows = read_labels(str(folder.parent / "out"), columns=COLUMNS).to_pylist()
    return {row["uri"].removeprefix(f"{folder}/"): row for row in rows}


def test_each_image_has_one_row_and_the_mask_of_its_file(folder: Path) -> None:
    plan = plan_label(config_of(folder))
    assert (plan.images, plan.refused, plan.run.new.num_rows) == (6, 1, 6)
    assert "damaged    1 containers" in str(plan)
    summary = label(folder)
    assert (summary.images, summary.ok) == (6, 4)
    rows = rows_of(folder)
    assert list(rows) == ["a.zip##3.png", "a.zip#1.png", "a.zip#bad.png", "a.zip#cats/2.png", "b.png", "broken.zip"]
    assert rows["a.zip#bad.png"]["error_type"] == "unidentified"
    assert rows["broken.zip"]["error_type"] == "read_failed"
    assert "File is not a zip file" in str(rows["broken.zip"]["error_message"])
    alone = folder.parent / "alone"
    alone.mkdir()
    for number, (name, data) in enumerate(INSIDE.items()):
        (alone / f"{number}.png").write_bytes(data)
        assert rows[f"a.zip#{name}"]["size_bytes"] == len(data)
    label(alone, output=str(alone.parent / "other"))
    masks = [row["mask"] for row in read_labels(str(alone.parent / "other"), columns=COLUMNS).to_pylist()]
    assert masks == [rows[f"a.zip#{name}"]["mask"] for name in INSIDE]


def test_a_second_night_does_what_is_new_or_replaced(folder: Path) -> None:
    label(folder)
    again = label(folder)
    assert (again.images, again.already_done) == (0, 6)
    listed = folder.parent / "list.txt"
    listed.write_text("in/a.zip#1.png\nin/b.png\n")
    assert plan_label(config_of(folder, input=str(listed))).run.new.num_rows == 0
    (folder / "a.zip").write_bytes(zip_of({**INSIDE, "4.png": png(5)}))
    (folder / "broken.zip").write_bytes(zip_of({"5.png": png(6)}))
    assert label(folder).images == 6  # all five of the new archive, and that of the mended one


def test_report_and_active_selection_show_the_pictures(folder: Path) -> None:
    summary = label(folder, active=2)
    assert len(summary.annotate_next) == 2
    out = folder.parent / "out"
    for page in (Path(str(summary.report)), out / "annotate_next.html"):
        text = page.read_text()
        assert "a.zip#" in text
        assert "The image can't be read any more" not in text
    chosen = plan_label(config_of(folder, input=str(out / "annotate_next.csv"), output=str(out.parent / "fresh")))
    assert (chosen.images, chosen.refused) == (2, 0)


@pytest.mark.parametrize("to", ["png", "coco", "huggingface", "fiftyone", "label-studio", "cvat"])
def test_exports_hold_the_pictures(folder: Path, to: str) -> None:
    label(folder)
    output = folder.parent / "exported"
    done = export(ExportConfig(labels=str(folder.parent / "out"), to=to, output=str(output)))  # type: ignore[arg-type]
    assert (done.images, sum(done.gone.values())) == (4, 0)
    with (output / "pictures.csv").open() as listed:
        named = {row["uri"]: float(row["uncertainty"]) for row in csv.DictReader(listed)}
    labels = read_labels(str(folder.parent / "out"), columns=["uri", "status", "uncertainty"]).to_pylist()
    assert named == {row["uri"]: row["uncertainty"] for row in labels if row["status"] == "ok"}
    files = [path for path in output.rglob("*.png") if path.parent.name not in ("masks", "labels")]
    held = {path.read_bytes() for path in files}
    inside = {INSIDE[name] for name in ("1.png", "cats/2.png", "#3.png")}
    if to == "label-studio":
        assert held == inside  # b.png stays where it is
    elif to != "huggingface":
        assert held == inside | {(folder / "b.png").read_bytes()}


def test_annotations_pretraining_and_the_notebook_read_them(folder: Path) -> None:
    summary = label(folder)
    (shard,) = Path(summary.labels).rglob("*.parquet")
    annotations = load_annotations(str(shard), image_size=16, task=TASK)
    assert [Path(one.uri).relative_to(folder).as_posix() for one in annotations] == [
        "a.zip##3.png",
        "a.zip#1.png",
        "a.zip#cats/2.png",
        "b.png",
    ]
    assert np.array_equal(load_images(str(folder), 16, "letterbox"), np.stack([one.image for one in annotations]))
    segmenter = ddpm_seg.load(str(folder.parent / "model"))
    inside, alone = segmenter([str(folder / "a.zip#1.png"), Image.open(io.BytesIO(INSIDE["1.png"]))])
    assert np.array_equal(inside.mask, alone.mask)
