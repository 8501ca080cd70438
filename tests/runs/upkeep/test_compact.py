from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.compute as pc
import pytest

from ddpm_seg import storage
from ddpm_seg.data.schema import class_stats_table
from ddpm_seg.runs import shard_writer
from ddpm_seg.runs.layout import RunLayout, uris_under
from ddpm_seg.runs.ledger import find_runs, input_keys, planned_keys
from ddpm_seg.runs.manifest import inputs_table, read_manifest
from ddpm_seg.runs.parquet import open_parquet
from ddpm_seg.runs.plan import plan_run
from ddpm_seg.runs.upkeep import compact as runs_compact
from ddpm_seg.runs.upkeep.compact import CompactConfig, Compacted, compact
from ddpm_seg.runs.upkeep.forget import forget
from ddpm_seg.runs.upkeep.prune import find_removable
from ddpm_seg.runs.view import current_rows, read_labels, read_view
from tests.runs.nightly_runs import labelled, night
from tests.tiny_bundle import TASK

NIGHTS, NAMES = 12, [f"{i:02d}.png" for i in range(40)]
DERIVED = {"class_stats": class_stats_table}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Twelve nights, of which each labels ten images anew, one of them badly."""
    generator = random.Random(0)
    for number in range(1, NIGHTS + 1):
        drawn = sorted(generator.sample(NAMES, 10))
        images = {name: labelled(number, **{TASK.class_names[1]: 0.5}) for name in drawn}
        night(tmp_path / "labels", number, {**images, drawn[0]: {"error_type": "empty", "error_message": "empty"}})
    return tmp_path / "labels"


def run(output: Path, **options: int) -> Compacted:
    config = CompactConfig(labels=str(output), output=str(output.parent / "new"), **options)
    return compact(config, DERIVED, lambda layout: storage.write_bytes(layout.report, b"report"))


def test_the_view_stays_the_same_in_fewer_files(output: Path) -> None:
    before = read_labels(str(output))
    done = run(output, shard_size=15)
    assert read_labels(done.layout.output).equals(before)
    assert (done.files_before, done.rows_before) == (4 * NIGHTS, 10 * NIGHTS)
    assert (done.files, done.rows) == (-(-before.num_rows // 15), before.num_rows)
    shards = uris_under(done.layout.shards())
    sizes = []
    for shard in shards:
        with open_parquet(shard) as file:
            sizes.append(file.metadata.num_rows)
    assert sizes == [15] * (len(shards) - 1) + [before.num_rows - 15 * (len(shards) - 1)]
    stats = read_view(str(output.parent / "new"), "class_stats", columns=["image_id"])
    assert set(stats["image_id"].to_pylist()) == set(before.filter(pc.field("status") == "ok")["image_id"].to_pylist())
    summary = json.loads(storage.read_bytes(done.layout.summary))
    assert (summary["images"], summary["ok"]) == (before.num_rows, before.num_rows - summary["errors"]["empty"])


def test_the_nightly_job_may_go_on_there(output: Path) -> None:
    before = read_labels(str(output))
    done = run(output)
    (known,) = find_runs(done.layout.output, "labels", "c")
    assert known.finished
    keys = set(planned_keys([known]).to_pylist())
    items = known.manifest.items
    assert keys == set(input_keys(items).to_pylist())
    versions = dict(zip(items["image_id"].to_pylist(), items["etag"].to_pylist(), strict=True))
    assert versions == dict(zip(before["image_id"].to_pylist(), before["etag"].to_pylist(), strict=True))


def test_what_is_forgotten_stays_forgotten(output: Path) -> None:
    forget(str(output), ["s3://b/never-seen.png"], lambda _: None)
    forget(str(output), ["s3://b/00.png"], lambda layout: storage.write_bytes(layout.report, b"report"))
    done = run(output)
    files = [storage.FileInfo(uri=f"s3://b/{name}.png", size_bytes=1) for name in ("00", "never-seen", "new")]
    for place in (str(output), done.layout.output):
        todo = plan_run(inputs_table(files), place, ("labels", "class_stats"), "c")
        assert todo.new["uri"].to_pylist() == ["s3://b/new.png"]


def test_what_is_forgotten_meanwhile_does_not_stay(output: Path) -> None:
    def report(layout: RunLayout) -> None:
        storage.write_bytes(layout.report, b"report")

    def forget_and_report(layout: RunLayout) -> None:
        report(layout)
        forget(str(output), ["s3://b/00.png"], report)

    config = CompactConfig(labels=str(output), output=str(output.parent / "new"))
    with pytest.raises(ValueError, match=r"images were forgotten in .*labels meanwhile: run the same command again"):
        compact(config, DERIVED, forget_and_report)
    done = compact(config, DERIVED, report)
    assert read_labels(done.layout.output).equals(read_labels(str(output)))


def test_large_rows_close_a_file_early(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 1)
    before = read_labels(str(output))
    done = run(output)
    assert done.files > NIGHTS
    assert read_labels(done.layout.output).equals(before)


def test_an_interrupted_compaction_begins_anew(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(runs_compact, "create_manifest", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(output, shard_size=5)
    new = str(output.parent / "new")
    for use in (
        lambda: plan_run(inputs_table([]), new, ("labels", "class_stats"), "c"),
        lambda: read_labels(new),
        lambda: current_rows(new, "labels"),
        lambda: find_removable(new),
        lambda: forget(new, ["s3://b/00.png"], lambda _: None),
        lambda: compact(CompactConfig(labels=new, output=f"{new}er"), {}, lambda _: None),
    ):
        with pytest.raises(ValueError, match=r"new is incomplete: .* Let the same command finish there first"):
            use()
    before = read_labels(str(output))
    done = run(output, shard_size=30)
    assert read_labels(done.layout.output).equals(before)
    assert plan_run(inputs_table([]), done.layout.output, ("labels", "class_stats"), "c").last_run is not None
    with pytest.raises(ValueError, match="is not empty"):
        run(output)


def test_what_is_somebody_elses_stays(output: Path) -> None:
    storage.write_bytes(str(output.parent / "new" / "thesis.txt"), b"years")
    with pytest.raises(ValueError, match="is not empty"):
        run(output)
    assert uris_under(str(output.parent / "new")) == [str(output.parent / "new" / "thesis.txt")]


@pytest.mark.parametrize("inside", ["labels", "labels/2026", "."])
def test_not_into_itself(output: Path, inside: str) -> None:
    with pytest.raises(ValueError, match="neither may be inside the other"):
        CompactConfig(labels=str(output), output=str(output.parent / inside))


def test_a_table_that_is_not_its_manifests_is_named(output: Path) -> None:
    first = find_runs(str(output), "labels", "c")[-1]
    other = find_runs(str(output), "labels", "c")[-2]
    storage.write_bytes(first.layout.shard(0), storage.read_bytes(other.layout.shard(0)))
    assert read_manifest(first.layout.manifest).items.num_rows == 10
    with pytest.raises(ValueError, match="its rows are not those that"):
        run(output)
