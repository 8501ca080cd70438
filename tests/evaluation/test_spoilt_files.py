"""Damaged files of an output: every reader names the file, and a new run continues where it can."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.data.schema import class_stats_table
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.errors import StageError
from ddpm_seg.evaluation.pages.annotate_next import write_active
from ddpm_seg.evaluation.pages.report import write_report
from ddpm_seg.evaluation.tables.changes import ChangesConfig, find_changes
from ddpm_seg.evaluation.tables.curation import CurateConfig, curate, read_curation, read_samples
from ddpm_seg.evaluation.tables.export import ExportConfig, export
from ddpm_seg.json_text import json_file
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.model.trained import read_trained_header
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.pipeline.generate.plan import plan_generate
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.plan import hash_config, plan_label
from ddpm_seg.runs.heartbeat import heartbeat
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.ledger import KnownRun, find_runs, planned_keys
from ddpm_seg.runs.manifest import read_manifest
from ddpm_seg.runs.parquet import DamagedFileError, decode, encode
from ddpm_seg.runs.summary import read_json, write_run_json
from ddpm_seg.runs.upkeep.compact import CompactConfig, compact
from ddpm_seg.runs.view import read_labels
from ddpm_seg.training.student.sample_stream import SampleStream
from jobs.label import main as label_main
from tests.boxed_samples import publish_boxes
from tests.runs.nightly_runs import labelled, night
from tests.tiny_bundle import TASK, tiny_bundle

Spoil = Callable[[bytes], bytes]

BYTES: dict[str, Spoil] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "cut short": lambda data: data[:-5],
    "noise": lambda data: random.Random(0).randbytes(len(data)),
    "HTML": lambda data: b"<!DOCTYPE html><html><body>404</body></html>",
    "an LFS pointer": lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
}
PARQUET: dict[str, Spoil] = {
    **BYTES,
    "JSON": lambda data: b'{"a": 1}',
    "a flipped bit": lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
    "another table": lambda data: encode(pa.table({"a": [1, 2, 3]})),
}
JSON: dict[str, Spoil] = {
    **BYTES,
    "deep": lambda data: b"[" * 200_000 + b"]" * 200_000,
    "deep objects": lambda data: b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "a list": lambda data: b"[1, 2]",
    "a string": lambda data: b'"statistics"',
    "null": lambda data: b"null",
    "no text": lambda data: b"{\xff: 1}",
}


def spoil(uri: str, how: Spoil) -> None:
    storage.write_bytes(uri, how(storage.read_bytes(uri)))


def images(number: int) -> dict[str, dict[str, object]]:
    """What a night labelled, with real masks; the images stand nowhere."""
    mask = {"bytes": encode_png(np.zeros((10, 10), np.uint8)), "path": None}
    return {f"{i}.png": {**labelled(number, **{TASK.class_names[1]: 0.5}), "mask": mask} for i in range(4)}


@pytest.fixture
def run(tmp_path: Path) -> KnownRun:
    """A night of one configuration, before one of another."""
    night(tmp_path / "out", 1, images(1), config_hash="old")
    return night(tmp_path / "out", 2, images(2))


# --- tables of labels ---

READERS: dict[str, Callable[[str], object]] = {
    "read_labels": read_labels,
    "columns": lambda output: read_labels(output, columns=["uri", "status"]),
    "active": lambda output: write_active(output, 2, config_hash="c"),
    "changes": lambda output: find_changes(ChangesConfig(labels=output)),
    "export": lambda output: export(ExportConfig(labels=output, to="label-studio", output=f"{output}-export")),
    "compact": lambda output: compact(
        CompactConfig(labels=output, output=f"{output}-compacted"), {"class_stats": class_stats_table}, lambda _: None
    ),
    "report": lambda output: write_report(output, "run-000002", contact_sheet=0),
}


FEW = ["truncated", "HTML", "another table"]
CASES = [*(("read_labels", how) for how in PARQUET), *((reader, how) for reader in [*READERS][1:] for how in FEW)]


@pytest.mark.parametrize(("reader", "how"), CASES)
def test_every_reader_names_the_shard_that_it_cannot_read(reader: str, how: str, run: KnownRun) -> None:
    READERS[reader](run.layout.output)
    for name in ("export", "compacted"):
        storage.delete(f"{run.layout.output}-{name}")
    shard = run.layout.shard(0)
    spoil(shard, PARQUET[how])
    with pytest.raises(DamagedFileError) as error:
        READERS[reader](run.layout.output)
    assert str(error.value).startswith(f"{shard} cannot be read: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("reader", ["active", "changes", "export"])
def test_a_shard_without_the_task_is_named(reader: str, run: KnownRun) -> None:
    shard = run.layout.shard(0)
    spoil(shard, lambda data: encode(decode(data).replace_schema_metadata({})))
    with pytest.raises(DamagedFileError, match=r"shard-00000\.parquet cannot be read: .*(ddpm_seg|schema|metadata)"):
        READERS[reader](run.layout.output)


# --- manifests ---


def other_columns(data: bytes) -> bytes:
    return encode(decode(data).drop_columns(["etag"]))


def other_types(data: bytes) -> bytes:
    table = decode(data)
    return encode(table.set_column(table.column_names.index("shard"), "shard", table["shard"].cast(pa.string())))


def nulls(data: bytes) -> bytes:
    table = decode(data)
    return encode(table.set_column(0, "image_id", pa.nulls(len(table), pa.string())))


def other_metadata(data: bytes) -> bytes:
    return encode(decode(data).replace_schema_metadata({"ddpm_seg": '{"run_id": 1}'}))


def deep_metadata(data: bytes) -> bytes:
    return encode(decode(data).replace_schema_metadata({"ddpm_seg": "[" * 100_000}))


MANIFESTS = {
    **PARQUET,
    "other columns": other_columns,
    "other types": other_types,
    "nulls": nulls,
    "other metadata": other_metadata,
    "deep metadata": deep_metadata,
    "no metadata": lambda data: encode(decode(data).replace_schema_metadata({})),
}


@pytest.mark.parametrize("how", MANIFESTS)
def test_a_spoilt_manifest_is_named_with_what_to_do(how: str, run: KnownRun) -> None:
    uri = run.layout.manifest
    spoil(uri, MANIFESTS[how])
    with pytest.raises(DamagedFileError) as error:
        read_manifest(uri)
    assert str(error.value).startswith(f"{uri} cannot be read: ")
    assert f"restore it from a copy, or delete {run.layout.folder} so that" in str(error.value)


# --- jobs that go on from run to run ---


@pytest.fixture
def config(tmp_path: Path) -> LabelConfig:
    """Of a labelled output of three nights, one of them unfinished."""
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    (tmp_path / "in").mkdir()
    for name in images(1):
        (tmp_path / "in" / name).write_bytes(b"x")
    config = LabelConfig(
        input=str(tmp_path / "in"), output=str(tmp_path / "out"), model=str(tmp_path / "model"), retry_errors=True
    )
    own = hash_config(config, read_trained_header(config.model)[0])
    for number in (1, 2, 3):
        night(tmp_path / "out", number, images(number), config_hash=own)
    storage.delete(f"{config.output}/runs/run-000003/report.html")
    return config


@pytest.mark.parametrize("how", ["truncated", "another table"])
@pytest.mark.parametrize("file", ["runs/run-000001/manifest.parquet", "runs/run-000003/manifest.parquet", "shard"])
def test_labelling_stops_with_status_4_and_says_what_to_do(
    file: str, how: str, config: LabelConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    if file == "shard":
        (run, *_) = find_runs(config.output, "labels", hash_config(config, read_trained_header(config.model)[0]))
        uri = run.layout.shard(1)
    else:
        uri = f"{config.output}/{file}"
    flags = ["--input", str(config.input), "--output", config.output, "--model", config.model, "--retry-errors"]
    assert label_main([*flags, "--dry-run"]) == 0
    spoil(uri, PARQUET[how])
    with pytest.raises(StageError, match="cannot be read"):
        plan_label(config)
    capsys.readouterr()
    assert label_main(flags) == 4
    said = capsys.readouterr().err
    assert f"{uri} cannot be read: " in said
    assert "delete" in said
    assert "the next run does its images again" in said
    # What it says, helps: the images of a shard or manifest that is deleted are done again.
    storage.delete(uri if file == "shard" else uri.rpartition("/")[0])
    assert label_main([*flags, "--dry-run"]) == 0


def test_generating_stops_too(tmp_path: Path) -> None:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    config = GenerateConfig(output=str(tmp_path / "out"), model=str(tmp_path / "model"))
    storage.write_bytes(f"{config.output}/runs/run-000001/manifest.parquet", b"spoilt")
    with pytest.raises(StageError, match=r"runs/run-000001/manifest\.parquet cannot be read"):
        plan_generate(config)


# --- JSON ---


@pytest.mark.parametrize("how", JSON)
def test_json_that_is_no_object_is_named(how: str, run: KnownRun) -> None:
    uri = run.layout.run_json
    spoil(uri, JSON[how])
    with pytest.raises(DamagedFileError) as error:
        read_json(uri)
    assert str(error.value).startswith(f"{uri} cannot be read: ")


STATISTICS = {
    "no statistics": {"config_hash": "c", "statistics": None},
    "a number": {"config_hash": "c", "statistics": 5},
    "no classes": {"config_hash": "c", "statistics": {"uncertainty": {"images": 60, "mean": 1, "variance": 1}}},
    "classes of another shape": {
        "config_hash": "c",
        "statistics": {"uncertainty": {"images": 60, "mean": 1, "variance": 1}, "classes": {"red": 3}},
    },
    "text": {
        "config_hash": "c",
        "statistics": {"uncertainty": {"images": 60, "mean": "1", "variance": 1}, "classes": {}},
    },
    "not finite": {
        "config_hash": "c",
        "statistics": {"uncertainty": {"images": 60, "mean": float("nan"), "variance": 1}, "classes": {}},
    },
}
SUMMARIES: dict[str, Spoil] = {
    **JSON,
    **{name: (lambda data, record=record: json.dumps(record).encode()) for name, record in STATISTICS.items()},  # type: ignore[misc]
}


@pytest.mark.parametrize("how", SUMMARIES)
def test_a_spoilt_summary_of_an_old_run_is_left_out_of_the_comparison(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    for number in range(1, 4):
        run = night(output, number, images(number))
        storage.write_bytes(run.layout.summary, json_file({"config_hash": "c", "images": 4}))
        if number == 3:
            spoil(f"{output}/runs/run-000001/summary.json", SUMMARIES[how])
        storage.delete(run.layout.report)
        write_report(str(output), run.layout.run_id, contact_sheet=0)
        assert storage.exists(run.layout.report)
    assert read_json(run.layout.summary)["drift"]["runs"] == 1
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"{output}/runs/run-000001/summary.json" in warning
    assert "leaves that run out" in warning


@pytest.mark.parametrize("how", JSON)
def test_a_spoilt_run_json_is_written_again(how: str, run: KnownRun, caplog: pytest.LogCaptureFixture) -> None:
    before = storage.read_bytes(run.layout.run_json)
    write_run_json(run.layout, run.info, {"model_id": "another attempt's"})
    assert storage.read_bytes(run.layout.run_json) == before
    spoil(run.layout.run_json, JSON[how])
    write_run_json(run.layout, run.info, {"model_id": "m"})
    assert storage.read_bytes(run.layout.run_json) == before
    assert run.layout.run_json in caplog.text


@pytest.mark.parametrize("how", JSON)
def test_compacting_goes_on_without_a_spoilt_run_json(
    how: str, run: KnownRun, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(run.layout.run_json, JSON[how])
    READERS["compact"](run.layout.output)
    assert read_labels(f"{run.layout.output}-compacted", config_hash="c").num_rows == 4
    assert run.layout.run_json in caplog.text


@pytest.mark.parametrize("how", JSON)
def test_a_spoilt_heartbeat_stops_nobody(how: str, tmp_path: Path) -> None:
    layout = RunLayout(output=str(tmp_path), table="labels", config_hash="c", run_id="run-000001")
    storage.write_bytes(layout.heartbeat, JSON[how](b'{"pid": 1}'))
    with heartbeat(layout):
        assert "pid" in read_json(layout.heartbeat)


# --- samples ---

SAMPLE_READERS: dict[str, Callable[[str], object]] = {
    "read_samples": read_samples,
    "curate": lambda output: curate(CurateConfig(samples=output)),
    "stream": lambda output: list(SampleStream(output).batches(0, 0, 4, 0, 1)),
}


@pytest.mark.parametrize("how", FEW)
@pytest.mark.parametrize("reader", SAMPLE_READERS)
def test_every_reader_of_samples_names_the_shard(reader: str, how: str, tmp_path: Path) -> None:
    publish_boxes(tmp_path, 16)
    SAMPLE_READERS[reader](str(tmp_path))
    (shard,) = (str(path) for path in tmp_path.rglob("shard-*.parquet"))
    spoil(shard, PARQUET[how])
    with pytest.raises(DamagedFileError) as error:
        SAMPLE_READERS[reader](str(tmp_path))
    assert str(error.value).startswith(f"{shard} cannot be read: ")


RULES: dict[str, Spoil] = {
    **JSON,
    "another object": lambda data: b'{"a": 1}',
    "text": lambda data: data.replace(b"0.0,", b'"0.0",'),
}


@pytest.mark.parametrize("how", RULES)
def test_a_spoilt_rule_is_named(how: str, tmp_path: Path) -> None:
    publish_boxes(tmp_path, 16)
    curate(CurateConfig(samples=str(tmp_path)))
    spoil(f"{tmp_path}/curation.json", RULES[how])
    with pytest.raises(
        DamagedFileError, match=r"curation\.json cannot be read: .*; make it again with ddpm-seg curate"
    ):
        read_curation(str(tmp_path))


def test_planned_keys_name_the_manifest(run: KnownRun) -> None:
    spoil(run.layout.manifest, other_columns)
    with pytest.raises(DamagedFileError, match=r"manifest\.parquet cannot be read: its column 'etag' is missing"):
        planned_keys([run])
