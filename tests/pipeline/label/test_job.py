"""The label job end to end, on a real Ray cluster; the first group of tests with everything on an S3 server."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.cluster import nodes
from ddpm_seg.data.canvas import fit
from ddpm_seg.data.decoding.images import decode
from ddpm_seg.data.image_labels import image_labels
from ddpm_seg.data.schema import class_stats_table, task_of
from ddpm_seg.errors import StageError, TooManyErrors
from ddpm_seg.json_text import json_digest
from ddpm_seg.model.bundle.ensemble_bundle import read_header, save_bundle
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.pipeline import job
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.job import LabelSummary, run_label
from ddpm_seg.pipeline.label.plan import hash_config, plan_label
from ddpm_seg.runs import plan as run_plan
from ddpm_seg.runs.commit import chunk_folders, write_chunk
from ddpm_seg.runs.heartbeat import AlreadyRunningError, heartbeat
from ddpm_seg.runs.ledger import find_runs
from ddpm_seg.runs.manifest import Manifest
from ddpm_seg.runs.parquet import decode as read_table
from ddpm_seg.runs.parquet import encode
from ddpm_seg.runs.view import read_labels
from tests.odd_images import write_odd_images
from tests.schema_reference import check_keys
from tests.tiny_bundle import TASK, tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("bundle"))
    save_bundle(tiny_bundle(), uri)
    return uri


def write_pictures(folder: Path, names: str, seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(seed)
    for name in names:
        Image.fromarray(generator.integers(0, 256, (24, 40, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def shards(uri: str) -> dict[str, pa.Table]:
    """Tables below `uri` by name."""
    return {file.uri.removeprefix(uri): read_table(storage.read_bytes(file.uri)) for file in storage.list_files(uri)}


# --- a folder of odd and broken files, with input, model and output on S3, on two actors with a (counted) GPU each ---


@dataclass(frozen=True, kw_only=True)
class S3Run:
    outcomes: dict[str, str]
    folder: Path
    config: LabelConfig
    summary: LabelSummary


@pytest.fixture(scope="module")
def s3_run(ray_cluster: str, s3: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> S3Run:
    folder, prefix = tmp_path_factory.mktemp("odd"), s3()
    outcomes = write_odd_images(folder)
    for name in outcomes:
        storage.write_bytes(storage.join(prefix, "in", name), (folder / name).read_bytes())
    storage.write_bytes(storage.join(prefix, "in", "notes.txt"), b"no image")
    save_bundle(tiny_bundle(), storage.join(prefix, "model"))
    uris = {
        name: storage.join(prefix, folder) for name, folder in [("input", "in"), ("model", "model"), ("output", "out")]
    }
    config = LabelConfig(**uris, shard_size=12, chunk_size=5, batch_size=1)
    return S3Run(outcomes=outcomes, folder=folder, config=config, summary=run_label(config))


def test_rows_in_equal_rows_out(s3_run: S3Run) -> None:
    table = read_labels(s3_run.config.output, columns=["uri", "status", "error_type"])
    found = {row["uri"].rpartition("/")[2]: row["error_type"] or row["status"] for row in table.to_pylist()}
    assert found == s3_run.outcomes
    assert table.num_rows == len(s3_run.outcomes) >= 20
    counts = Counter(s3_run.outcomes.values())
    assert s3_run.summary.ok == counts.pop("ok")
    assert s3_run.summary.errors == counts
    assert (s3_run.summary.images, s3_run.summary.skipped_files) == (len(s3_run.outcomes), 1)


def test_masks_are_those_of_the_segmenter(s3_run: S3Run) -> None:
    segmenter = Segmenter(tiny_bundle(), batch_size=1)  # batches of another size round differently
    compared = 0
    for row in read_labels(s3_run.config.output).to_pylist():
        if row["status"] != "ok":
            assert row["mask"] is None
            continue
        image = decode((s3_run.folder / row["uri"].rpartition("/")[2]).read_bytes())
        canvas, placement = fit(image, segmenter.image_size, "letterbox")
        (labels,) = segmenter.segment(canvas[None])
        mask = np.asarray(Image.open(io.BytesIO(row["mask"]["bytes"])))
        assert mask.shape == image.shape[:2] == (row["height"], row["width"])
        assert np.array_equal(mask, image_labels(labels, placement, TASK.class_names, "bilinear").mask), row["uri"]
        assert {one["class_id"]: one["pixels"] for one in row["classes"]} == dict(
            zip(*map(np.ndarray.tolist, np.unique(mask, return_counts=True)), strict=True)
        )
        compared += 1
    assert compared == s3_run.summary.ok


def test_tables_carry_their_task_and_agree(s3_run: S3Run) -> None:
    labels, class_stats = shards(s3_run.summary.labels), shards(s3_run.summary.class_stats)
    assert [table.num_rows for table in labels.values()] == [12, 12, len(s3_run.outcomes) - 24]
    assert {name: class_stats_table(table) for name, table in labels.items()} == class_stats
    for table in labels.values():
        assert task_of(table.schema) == TASK
        assert table["uri"].to_pylist() == sorted(table["uri"].to_pylist())


def test_tables_open_in_pandas_duckdb_and_datasets(s3_run: S3Run, tmp_path: Path) -> None:
    import datasets

    for file in storage.list_files(s3_run.summary.labels):
        path = tmp_path / file.uri.removeprefix(s3_run.summary.labels).lstrip("/")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(storage.read_bytes(file.uri))
    ok = s3_run.summary.ok
    assert (pd.read_parquet(tmp_path)["status"] == "ok").sum() == ok
    query = f"select count(*), count(mask.bytes), sum(len(classes)) from '{tmp_path}/**/*.parquet' where status = 'ok'"
    rows, masks, classes = duckdb.sql(query).fetchall()[0]
    assert (rows, masks) == (ok, ok)
    assert classes == sum(table.num_rows for table in shards(s3_run.summary.class_stats).values())
    files = sorted(map(str, tmp_path.rglob("*.parquet")))
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == len(s3_run.outcomes)
    for row in loaded:
        assert (row["mask"] is None) == (row["status"] == "error")
        if row["mask"] is not None:
            assert (row["mask"].mode, row["mask"].size) == ("L", (row["width"], row["height"]))


def test_a_run_leaves_its_account_and_no_chunks(s3_run: S3Run) -> None:
    output = s3_run.config.output
    names = {file.uri.removeprefix(output) for file in storage.list_files(output)}
    run = "/runs/run-000001/"
    assert {name for name in names if name.startswith("/runs")} == {
        run + name for name in ("manifest.parquet", "run.json", "summary.json", "report.html")
    }
    assert not any("_chunks" in name for name in names)
    summary = json.loads(storage.read_bytes(output + run + "summary.json"))
    assert (summary["images"], summary["ok"]) == (s3_run.summary.images, s3_run.summary.ok)
    assert set(summary["seconds"]) == {"read", "segment", "write", "total"}
    settings = json.loads(storage.read_bytes(output + run + "run.json"))
    check_keys("summary.json", summary)
    assert [by.split(", ")[0] for by in summary["computed_by"]] == [torch.backends.cpu.get_cpu_capability()]
    check_keys("run.json", settings)
    assert settings["config"]["shard_size"] == 12
    assert settings["cluster"]["actor_gpus"] == 1
    assert s3_run.summary.report == output + run + "report.html"


def test_nothing_new_starts_nothing(s3_run: S3Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "connect", lambda: pytest.fail("Ray was asked for"))
    summary = run_label(s3_run.config)
    assert (summary.runs, summary.already_done) == ((), len(s3_run.outcomes))
    assert summary.report == s3_run.summary.report


def test_int8_is_refused_on_gpus_before_a_run_is_begun(ray_cluster: str, bundle: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="this cluster has GPUs; take bfloat16"):
        run_label(LabelConfig(output=str(tmp_path / "labels"), model=bundle, dtype="int8"))
    assert not list(tmp_path.rglob("run-*"))


def test_int8_is_refused_on_a_processor_without_it_before_a_run_is_begun(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    monkeypatch.setattr(nodes, "connect", lambda: [nodes.Node(cpus=2, gpus=0)])
    with pytest.raises(ValueError, match="int8 needs a CPU with VNNI instructions, which this one lacks"):
        run_label(LabelConfig(output=str(tmp_path / "labels"), model=bundle, dtype="int8"))
    assert not list(tmp_path.rglob("run-*"))


# --- on local disk, with the actor on a CPU and one left free ---


@pytest.fixture
def on_cpus(ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "connect", lambda: [nodes.Node(cpus=2, gpus=0)])


@pytest.fixture(scope="module")
def whole(ray_cluster: str, bundle: str, tmp_path_factory: pytest.TempPathFactory) -> LabelConfig:
    """A finished run of seven images: 3, 3 and 1 in a shard, one in a chunk."""
    folder = tmp_path_factory.mktemp("whole")
    write_pictures(folder / "in", "abcdefg")
    config = LabelConfig(
        input=str(folder / "in"), output=str(folder / "out"), model=bundle, shard_size=3, chunk_size=1, num_actors=1
    )
    run_label(config)
    return config


@pytest.fixture
def copy(whole: LabelConfig, tmp_path: Path) -> LabelConfig:
    """The same input, and a copy of its output."""
    shutil.copytree(whole.output, tmp_path / "out")
    return replace(whole, output=str(tmp_path / "out"))


def test_a_second_run_does_what_is_new_or_changed(on_cpus: None, copy: LabelConfig, tmp_path: Path) -> None:
    assert copy.input is not None
    names = [str(Path(copy.input) / f"{name}.png") for name in "abcde"]
    os.utime(write_pictures(tmp_path / "in", "x") / "x.png", (1, 1))
    listed = [*names, str(tmp_path / "in" / "x.png"), str(tmp_path / "in" / "not there.png")]
    (tmp_path / "list.txt").write_text("\n".join(listed))
    config = replace(copy, input=str(tmp_path / "list.txt"))
    before = Path(names[1]).stat()
    try:
        os.utime(names[1], (1, 1))
        assert plan_label(replace(config, limit=2)).run.new.num_rows == 2
        summary = run_label(config)
        assert (summary.images, summary.already_done, summary.errors) == (3, 4, {"not_found": 1})
        assert plan_label(config).run.new.num_rows == 0
    finally:
        os.utime(names[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    view = read_labels(config.output, columns=["uri", "run_id"])
    second = [row["uri"] for row in view.to_pylist() if row["run_id"] == "run-000002"]
    assert sorted(second) == sorted([names[1], *listed[-2:]])
    assert view.num_rows == 9


def test_an_interrupted_run_is_finished(on_cpus: None, whole: LabelConfig, copy: LabelConfig) -> None:
    (run,) = find_runs(copy.output, "labels", hash_config(copy, read_header(copy.model)))
    # Shard 0 is published without statistics; of shard 1 a chunk is there, told by its mark; of shard 2 nothing.
    for uri in (run.layout.report, run.layout.summary, run.layout.shard(0, "class_stats")):
        storage.delete(uri)
    original = read_table(storage.read_bytes(run.layout.shard(1)))
    for shard in (1, 2):
        storage.delete(run.layout.shard(shard))
        storage.delete(run.layout.shard(shard, "class_stats"))
    mark = pa.array(["was there"], pa.string())
    position = original.schema.get_field_index("error_message")
    write_chunk(run.planned(), 1, 0, original.slice(0, 1).set_column(position, "error_message", mark))
    published = Path(run.layout.shard(0)).stat().st_mtime_ns
    half_written = Path(run.layout.shards()) / f".ddpm_seg-{'0' * 32}.tmp"  # as a killed writer leaves it
    half_written.touch()

    summary = run_label(replace(copy, shard_size=1000))  # the manifest, not the flag, says how the run was cut

    (finished,) = summary.runs
    assert (finished.run_id, finished.images, finished.timed_images) == ("run-000001", 7, 3)
    assert Path(run.layout.shard(0)).stat().st_mtime_ns == published
    redone = read_table(storage.read_bytes(run.layout.shard(1)))
    assert redone["error_message"].to_pylist() == ["was there", None, None]
    assert redone.drop_columns("error_message").equals(original.drop_columns("error_message"))
    undisturbed = replace(run.layout, output=whole.output)
    for shard, table in [(0, "labels"), (0, "class_stats"), (1, "class_stats"), (2, "labels"), (2, "class_stats")]:
        assert storage.read_bytes(run.layout.shard(shard, table)) == storage.read_bytes(undisturbed.shard(shard, table))
    assert chunk_folders(copy.output) == set()
    assert not half_written.exists()


def test_a_race_lost_at_planning_finishes_the_winners_run(
    on_cpus: None, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "in", "abc")
    config = LabelConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out"), model=bundle)
    freeze = run_plan.freeze_run

    def slow_freeze(output: str, table: str, manifest: Manifest, number: int) -> object:
        # Another driver, which listed the input a moment earlier, before "c" was there.
        monkeypatch.setattr(run_plan, "freeze_run", freeze)
        freeze(output, table, replace(manifest, items=manifest.items.slice(0, 2)), number)
        return freeze(output, table, manifest, number)

    monkeypatch.setattr(run_plan, "freeze_run", slow_freeze)
    summary = run_label(config)
    assert [(one.run_id, one.images) for one in summary.runs] == [("run-000001", 2), ("run-000002", 1)]
    assert read_labels(config.output).num_rows == 3


def test_the_same_work_gives_the_same_bytes(on_cpus: None, whole: LabelConfig, tmp_path: Path) -> None:
    again = replace(whole, output=str(tmp_path / "again"))
    run_label(again)
    for table in ("labels", "class_stats"):
        ours, theirs = (shards(storage.join(config.output, table)) for config in (again, whole))
        assert list(ours) == list(theirs)
        for name, rows in ours.items():
            for column in ("run_id", "created_at"):  # the start of the run
                if column in rows.column_names:
                    position = rows.column_names.index(column)
                    rows = rows.set_column(position, rows.schema.field(column), theirs[name][column])
            assert encode(rows) == encode(theirs[name])


def test_errors_are_retried_when_asked(on_cpus: None, bundle: str, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "in", "ab")
    (tmp_path / "list.txt").write_text(f"{folder}/a.png\n{folder}/b.png\n{folder}/late.png\n{folder}/never.png")
    config = LabelConfig(input=str(tmp_path / "list.txt"), output=str(tmp_path / "out"), model=bundle)
    assert run_label(config).errors == {"not_found": 2}
    assert plan_label(config).run.new.num_rows == 0
    (folder / "late.png").write_bytes((folder / "a.png").read_bytes())

    retry = replace(config, retry_errors=True)
    assert "errors of earlier runs among them" in str(plan_label(retry))
    summary = run_label(retry)
    assert (summary.images, summary.ok, summary.errors, summary.already_done) == (2, 1, {"not_found": 1}, 2)
    view = read_labels(config.output, columns=["uri", "status", "run_id"])
    assert [(Path(row["uri"]).stem, row["status"], row["run_id"][-1]) for row in view.to_pylist()] == [
        ("a", "ok", "1"),
        ("b", "ok", "1"),
        ("late", "ok", "2"),
        ("never", "error", "2"),
    ]
    # What failed and waits in an interrupted run is done once, there.
    storage.delete(find_runs(config.output, "labels", hash_config(config, read_header(bundle)))[1].layout.report)
    assert (plan_label(retry).run.new.num_rows, len(plan_label(retry).run.unfinished)) == (0, 1)


def test_rejected_images_are_labelled_again_and_no_others(on_cpus: None, bundle: str, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "in", "abc")
    config = LabelConfig(input=str(folder), output=str(tmp_path / "out"), model=bundle)
    run_label(config)
    write_pictures(folder, "d")  # new, but nobody rejected it
    verdicts = tmp_path / "verdicts.csv"
    verdicts.write_text("uri,verdict,run_id\nin/a.png,reject,run-000001\nin/b.png,accept,run-000001\n")
    redo = replace(config, redo=str(verdicts))
    assert "only the images that" in str(plan_label(redo))
    summary = run_label(redo)
    assert (summary.images, summary.ok, summary.already_done) == (1, 1, 0)
    view = read_labels(config.output, columns=["uri", "run_id"]).to_pylist()
    assert [(Path(row["uri"]).stem, row["run_id"][-1]) for row in view] == [("a", "2"), ("b", "1"), ("c", "1")]
    assert run_label(redo).runs == ()  # the same command again finds it done
    verdicts.write_text("uri\nelsewhere.png\n")
    with pytest.raises(ValueError, match="--input has none of the images"):
        plan_label(redo)


def test_a_run_of_broken_input_stops_and_goes_on_under_a_higher_limit(
    on_cpus: None, bundle: str, tmp_path: Path
) -> None:
    folder = write_pictures(tmp_path / "in", "abcdef")
    for name in "abc":
        (folder / f"{name}.png").write_bytes(b"")
    config = LabelConfig(input=str(folder), output=str(tmp_path / "out"), model=bundle, shard_size=2, chunk_size=1)
    with pytest.raises(TooManyErrors, match="empty"):
        run_label(replace(config, max_errors="2"))
    assert [run.finished for run in find_runs(config.output, "labels", hash_config(config, read_header(bundle)))] == [
        False
    ]
    with pytest.raises(TooManyErrors):  # those of the first attempt count
        run_label(replace(config, max_errors="49%"))
    summary = run_label(replace(config, max_errors="50%"))
    assert (summary.ok, summary.errors) == (3, {"empty": 3})
    # A night after: what failed before and fails again does not count, what is new and broken does.
    again = replace(config, retry_errors=True, max_errors="0")
    assert run_label(again).errors == {"empty": 3}
    (folder / "g.png").write_bytes(b"")
    with pytest.raises(TooManyErrors, match="and 3 are allowed"):
        run_label(again)


def test_two_drivers_do_not_work_on_one_run(on_cpus: None, copy: LabelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = find_runs(copy.output, "labels", hash_config(copy, read_header(copy.model)))
    storage.delete(run.layout.report)
    with heartbeat(run.layout), monkeypatch.context() as patch:
        patch.setattr("ddpm_seg.runs.heartbeat._machine", lambda: "another kernel")
        patch.setattr(nodes, "connect", lambda: pytest.fail("Ray was asked for"))
        with pytest.raises(AlreadyRunningError, match="run-000001"):
            run_label(copy)
    (finished,) = run_label(copy).runs
    assert (finished.images, finished.timed_images) == (7, 0)
    assert not storage.exists(run.layout.heartbeat)


def test_a_late_chunk_of_a_finished_run_is_swept(
    on_cpus: None, copy: LabelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = find_runs(copy.output, "labels", hash_config(copy, read_header(copy.model)))
    write_chunk(run.planned(), 0, 1, read_table(storage.read_bytes(run.layout.shard(0))).slice(1, 1))
    monkeypatch.setattr(nodes, "connect", lambda: pytest.fail("Ray was asked for"))
    assert run_label(copy).runs == ()
    assert chunk_folders(copy.output) == set()


@pytest.mark.parametrize(("tables", "number"), [((), 1), (("labels", "class_stats"), 2)], ids=["chunks", "tables too"])
def test_what_a_deleted_run_left_is_not_the_next_ones(
    tables: tuple[str, ...], number: int, on_cpus: None, bundle: str, tmp_path: Path
) -> None:
    """Of a run-000001 whose manifest was deleted, and which had as many rows as the next one."""
    write_pictures(tmp_path / "in", "abc")
    config = LabelConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out"), model=bundle, chunk_size=1)
    other = replace(config, input=str(write_pictures(tmp_path / "other", "xyz")), output=str(tmp_path / "before"))
    run_label(other)
    (run,) = find_runs(other.output, "labels", hash_config(other, read_header(bundle)))
    rows = read_table(storage.read_bytes(run.layout.shard(0)))
    mine = replace(run.layout, output=config.output)
    for chunk in range(3):
        for folder in (run.layout.run_id, run.planned().chunks.rpartition("run=")[2]):
            uri = f"{config.output}/_chunks/run={folder}/shard-00000/chunk-{chunk:04d}.parquet"
            storage.write_bytes(uri, encode(rows.slice(chunk, 1)))
    for table in tables:
        storage.write_bytes(mine.shard(0, table), storage.read_bytes(run.layout.shard(0, table)))
    summary = run_label(config)
    assert (summary.images, summary.ok) == (3, 3)
    (found,) = find_runs(config.output, "labels", hash_config(config, read_header(bundle)))
    assert found.layout.run_id == f"run-{number:06d}"
    labels = read_table(storage.read_bytes(found.layout.shard(0)))
    assert [Path(uri).stem for uri in labels["uri"].to_pylist()] == ["a", "b", "c"]
    assert set(labels["run_id"].to_pylist()) == {found.layout.run_id}
    assert read_labels(config.output).num_rows == (6 if tables else 3)  # nobody's labels are deleted
    assert read_table(storage.read_bytes(found.layout.shard(0, "class_stats"))).equals(class_stats_table(labels))
    assert chunk_folders(config.output) == set()


def test_a_spoilt_summary_of_an_earlier_night_stops_no_later_one(
    on_cpus: None, copy: LabelConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    summary = f"{copy.output}/runs/run-000001/summary.json"
    storage.write_bytes(summary, storage.read_bytes(summary)[:40])
    write_pictures(tmp_path / "new", "q")
    done = run_label(replace(copy, input=str(tmp_path / "new")))
    assert done.images == 1
    assert storage.exists(str(done.report))
    assert f"{summary} cannot be read" in caplog.text


def test_a_driver_that_cannot_write_its_account_is_resumed(
    on_cpus: None, copy: LabelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = find_runs(copy.output, "labels", hash_config(copy, read_header(copy.model)))
    for uri in (run.layout.summary, run.layout.report):
        storage.delete(uri)
    Path(run.layout.summary).mkdir()  # where a file should be
    with pytest.raises(StageError, match=r"run-000001: .*summary\.json"):
        run_label(copy)
    Path(run.layout.summary).rmdir()
    assert [one.ok for one in run_label(copy).runs] == [7]


def test_a_stage_that_fails_is_one_line_and_the_run_goes_on_later(
    on_cpus: None, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "in", "ab")
    model = shutil.copytree(bundle, tmp_path / "model")
    config = LabelConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out"), model=str(model))
    # The model is there when the driver looks, and gone when the actor does.
    monkeypatch.setattr(job, "load_model", shutil.rmtree)
    with pytest.raises(StageError, match="BundleError: no model bundle") as error:
        run_label(config)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    shutil.copytree(bundle, model)
    assert (plan_label(config).run.new.num_rows, len(plan_label(config).run.unfinished)) == (0, 1)


# --- refused before Ray starts ---


@pytest.mark.parametrize("wrong", ["input", "model", "ddpm", "damaged", "output"])
def test_what_cannot_work_is_refused_before_ray_starts(
    wrong: str, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "connect", lambda: pytest.fail("Ray was asked for"))
    write_pictures(tmp_path / "in", "a")
    config = LabelConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out"), model=bundle)
    save_bundle(replace(tiny_bundle(), members=()), str(tmp_path / "ddpm"))
    shutil.copytree(bundle, tmp_path / "damaged")
    weights = bytearray((tmp_path / "damaged" / "unet.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "damaged" / "unet.safetensors").write_bytes(weights)
    (tmp_path / "file").write_text("a file")
    change, message = {
        "input": ({"input": str(tmp_path / "gone")}, "nothing found"),
        "model": ({"model": str(tmp_path / "gone")}, "no model bundle"),
        "ddpm": ({"model": str(tmp_path / "ddpm")}, "without an ensemble"),
        "damaged": ({"model": str(tmp_path / "damaged")}, "is damaged"),
        "output": ({"output": str(tmp_path / "file")}, "not writable|not a folder|Not a directory"),
    }[wrong]
    with pytest.raises((ValueError, OSError), match=message):
        run_label(replace(config, **change))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("text", "most"), [("0", 0), ("17", 17), ("0%", 0), ("29%", 29), ("2.55%", 2), ("100%", 100)])
def test_a_limit_of_errors_is_a_number_or_a_share(text: str, most: int) -> None:
    assert LabelConfig(max_errors=text).error_limit(100) == most
    assert LabelConfig().error_limit(100) is None


@pytest.mark.parametrize("text", ["", "%", "-1", "1.5", "101%", "five", "5 %", "1e3", "٣"])
def test_another_limit_of_errors_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"--max-errors must be a number of images \(100\) or a share \(5%\)"):
        LabelConfig(max_errors=text)


@pytest.mark.parametrize("field", ["shard_size", "chunk_size", "limit", "num_actors", "batch_size", "gpus_per_actor"])
def test_sizes_are_positive(field: str) -> None:
    with pytest.raises(ValueError, match=f"--{field.replace('_', '-')} must be"):
        LabelConfig(**{field: 0})
    with pytest.raises(ValueError, match="at most 1, got 2"):
        LabelConfig(gpus_per_actor=2)


def test_the_hash_names_what_changes_pixels(bundle: str, tmp_path: Path) -> None:
    header, config = read_header(bundle), LabelConfig()
    same = [replace(config, output="x", shard_size=1, batch_size=3, num_actors=2, limit=1)]
    other = [replace(config, fit="stretch"), replace(config, dtype="bfloat16"), replace(config, resize="nearest")]
    hashes = [hash_config(one, header) for one in (config, *same, *other)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4
    before = {"model_id": header.model_id, "fit": "letterbox", "dtype": "float32"}
    assert hashes[-1] == json_digest(before)[:12]  # an option that came later
    assert hash_config(config, save_bundle(tiny_bundle(seed=1), str(tmp_path))) not in hashes
