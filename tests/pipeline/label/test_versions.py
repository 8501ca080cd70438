"""Which images of a list are labelled again: planned against a real S3 server, run without Ray or a model."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.job import LabelWork
from ddpm_seg.pipeline.label.plan import LabelPlan, plan_label
from ddpm_seg.pipeline.label.rows import FittedImage, LabelSpec, fetch, label_table
from ddpm_seg.runs.ledger import KnownRun, freeze_run
from ddpm_seg.runs.manifest import Manifest, RunInfo, plan
from ddpm_seg.runs.parquet import encode
from ddpm_seg.runs.view import read_labels
from ddpm_seg.storage import hosts, remote
from tests.tiny_bundle import tiny_bundle
from tests.web_server import WebServer, web_server

SIZE = 16


def picture(number: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.full((4, 4 + number, 3), number, np.uint8)).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("bundle") / "tiny")
    save_bundle(tiny_bundle(), uri)
    return uri


@pytest.fixture
def photos(s3: Callable[[], str]) -> str:
    root = s3()
    for number in range(4):
        storage.write_bytes(f"{root}/{number}.png", picture(number))
    return root


@pytest.fixture
def config(photos: str, bundle: str, tmp_path: Path) -> LabelConfig:
    """Four objects, and one that is not there, in a list with a header."""
    names = [f"{photos}/{name}.png" for name in "0123x"]
    (tmp_path / "list.csv").write_text("\n".join(["uri", *names, ""]))
    return LabelConfig(input=str(tmp_path / "list.csv"), output=str(tmp_path / "out"), model=bundle)


def freeze(found: LabelPlan) -> KnownRun:
    now = datetime.now(timezone.utc)
    info = RunInfo(run_id="", config_hash=found.run.config_hash, created_at=now, config={})
    run = freeze_run(
        found.run.output, "labels", Manifest(info=info, items=plan(found.run.new, 100, 100)), found.run.next_number
    )
    assert run is not None
    return run


def finish(run: KnownRun, found: LabelPlan, *, as_before: bool = False) -> None:
    """Reads every image and publishes its row; `as_before`, the ETag of the plan, as 6f6d309 did."""
    import pickle

    assert found.header.task is not None
    spec = LabelSpec(
        layout=run.layout,
        created_at=run.info.created_at,
        model_id=found.header.model_id,
        code_version="v",
        image_size=SIZE,
        fit="letterbox",
        task=found.header.task,
        allow_local_hosts=found.local_hosts,
    )
    sources = pickle.loads(LabelWork(found).to_row(0, 0, run.manifest.items)["payload"])
    images = [fetch(source, spec) for source in sources]
    if as_before:
        images = [replace(image, source=replace(image.source, etag=None)) for image in images]
    table = label_table(images, [_label(image) for image in images], spec)
    storage.write_bytes(run.layout.shard(0), encode(table))
    storage.write_bytes(run.layout.report, b"report")


def _label(image: FittedImage) -> PixelLabels | None:
    zeros = np.zeros((SIZE, SIZE))
    labels = PixelLabels(
        label=zeros.astype(np.uint8), uncertainty=zeros.astype(np.float32), confidence=zeros.astype(np.float32)
    )
    return labels if image.canvas is not None else None


def night(config: LabelConfig) -> list[str]:
    """Plans and does one run; names of what was new."""
    found = plan_label(config)
    finish(freeze(found), found)
    return names_of(found)


def names_of(found: LabelPlan) -> list[str]:
    return [uri.rpartition("/")[2] for uri in found.run.new["uri"].to_pylist()]


def test_an_object_of_a_list_that_was_overwritten_is_labelled_again(config: LabelConfig, photos: str) -> None:
    assert night(config) == ["0.png", "1.png", "2.png", "3.png", "x.png"]
    assert names_of(plan_label(config)) == []
    storage.write_bytes(f"{photos}/2.png", picture(9))
    assert names_of(plan_label(replace(config, check_versions=False))) == []  # it was not asked to look
    assert night(config) == ["2.png"]
    storage.write_bytes(f"{photos}/x.png", picture(5))
    assert night(config) == ["x.png"]
    storage.delete(f"{photos}/0.png")
    assert names_of(plan_label(config)) == []
    rows = read_labels(config.output, columns=["uri", "status", "width", "etag"]).to_pylist()
    assert [(row["status"], row["width"]) for row in rows] == [("ok", 4), ("ok", 5), ("ok", 13), ("ok", 7), ("ok", 9)]
    assert all(row["etag"] for row in rows)


def test_what_was_read_is_what_is_recorded(config: LabelConfig, photos: str) -> None:
    found = plan_label(config)
    run = freeze(found)
    storage.write_bytes(f"{photos}/1.png", picture(8))  # between planning and reading
    now = storage.info(f"{photos}/1.png")
    finish(run, found)
    (row,) = [row for row in read_labels(config.output).to_pylist() if row["uri"].endswith("/1.png")]
    assert (row["etag"], row["size_bytes"], row["width"]) == (now.etag, now.size_bytes, 12)
    assert names_of(plan_label(config)) == []  # it was labelled as it is
    storage.write_bytes(f"{photos}/1.png", picture(7))
    assert night(config) == ["1.png"]
    assert names_of(plan_label(config)) == []


def test_a_list_labelled_before_versions_were_asked_for_is_not_labelled_again(config: LabelConfig, photos: str) -> None:
    found = plan_label(replace(config, check_versions=False))
    assert found.run.new["etag"].null_count == found.run.new["size_bytes"].null_count == 5
    finish(freeze(found), found, as_before=True)
    assert names_of(plan_label(config)) == []
    storage.write_bytes(f"{photos}/3.png", picture(9) + b"longer")
    assert names_of(plan_label(config)) == ["3.png"]


def test_an_unfinished_run_of_before_is_finished_and_nothing_is_planned_twice(config: LabelConfig) -> None:
    found = plan_label(replace(config, check_versions=False))
    run = freeze(found)
    again = plan_label(config)
    assert (len(again.run.unfinished), again.run.new.num_rows) == (1, 0)
    finish(run, again)
    assert names_of(plan_label(config)) == []


def test_leaving_versions_out_labels_nothing_again(config: LabelConfig) -> None:
    night(config)
    assert names_of(plan_label(replace(config, check_versions=False))) == []


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_inventory_is_believed(
    form: str, photos: str, config: LabelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = photos.removeprefix("s3://").partition("/")[0]
    awkward = f"{photos}/a b+c.png"
    storage.write_bytes(awkward, picture(6))
    files = [*(storage.info(f"{photos}/{number}.png") for number in range(4)), storage.info(awkward)]
    keys = [file.uri.removeprefix(f"s3://{bucket}/") for file in files]
    path = tmp_path / f"inventory.{form}"
    if form == "csv":
        rows = ['"Bucket","Key","Size","ETag","LastModifiedDate"']
        for key, file in zip(keys, files, strict=True):
            encoded = key.replace("+", "%2B").replace(" ", "+")  # as S3 writes it in CSV
            rows.append(f'"{bucket}","{encoded}","{file.size_bytes}","{file.etag}","2026-01-02T03:04:05.000Z"')
        path.write_text("\n".join(rows) + "\n")
    else:
        times = pa.array([file.modified for file in files], pa.timestamp("ms"))
        columns = {"bucket": [bucket] * 5, "key": keys, "size": [file.size_bytes for file in files]}
        pq.write_table(pa.table({**columns, "last_modified_date": times, "e_tag": [file.etag for file in files]}), path)

    def asked(*arguments: object, **options: object) -> None:
        raise AssertionError("a version was asked for")

    monkeypatch.setattr(remote, "info", asked)
    found = plan_label(replace(config, input=str(path)))
    expected = {file.uri: (file.etag, file.size_bytes) for file in files}
    assert {row["uri"]: (row["etag"], row["size_bytes"]) for row in found.run.new.to_pylist()} == expected
    assert "the versions that the list has" in str(found)
    finish(freeze(found), found)
    assert plan_label(replace(config, input=str(path))).run.new.num_rows == 0
    monkeypatch.undo()
    assert names_of(plan_label(config)) == ["x.png"]  # the plain list of the same objects


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    with web_server() as server:
        yield server
    monkeypatch.setattr(hosts, "_allowed", False)


def test_a_picture_of_a_web_server_that_changed_is_labelled_again(web: WebServer, config: LabelConfig) -> None:
    assert config.input is not None
    web.files = {"/a.png": (picture(1), "a1"), "/b.png": (picture(2), "b1")}
    Path(config.input).write_text(f"url\n{web.url}/a.png\n{web.url}/b.png?signature=needed\n")
    allowed = replace(config, allow_local_hosts=True)
    assert night(allowed) == ["a.png", "b.png"]
    web.files["/b.png"] = (picture(3), "b2")
    assert night(allowed) == ["b.png"]
    rows = read_labels(config.output, columns=["etag", "width"]).to_pylist()
    assert rows == [{"etag": "a1", "width": 5}, {"etag": "b2", "width": 7}]


def test_entries_of_a_list_that_reach_too_far_are_rows(web: WebServer, config: LabelConfig, tmp_path: Path) -> None:
    """From a web server: so no file of this machine, and no host of it."""
    assert config.input is not None
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(1))
    web.files = {"/list.txt": (b"", "l"), "/a.png": (picture(1), "a1")}
    lines = [str(secret), secret.as_uri(), "/proc/self/environ", "file:///etc/shadow", "a.png", "s3://k:s@b/x.png"]
    lines += [
        "ftp://127.0.0.1/x.png",
        "reference://x.png",
        "github://x.png",
        "file://elsewhere/x",
        "local://" + str(secret),
    ]
    web.files["/list.txt"] = ("\n".join(lines).encode(), "l")
    found = plan_label(replace(config, input=f"{web.url}/list.txt"))
    assert found.refused == 5
    finish(freeze(found), found)
    rows = {row["uri"]: row for row in read_labels(config.output).to_pylist()}
    kinds = {uri: row["error_type"] for uri, row in rows.items()}
    assert kinds == {
        str(secret): "access_denied",
        "/proc/self/environ": "access_denied",
        "/etc/shadow": "access_denied",
        f"{web.url}/a.png": "access_denied",
        "s3://b/x.png": "read_failed",
        "ftp://127.0.0.1/x.png": "access_denied",
        "reference://x.png": "read_failed",
        "github://x.png": "read_failed",
        "file://elsewhere/x": "read_failed",
        "local://" + str(secret): "read_failed",
    }
    assert "cannot name files on this machine" in rows[str(secret)]["error_message"]
    assert web.asked["GET /a.png"] == web.asked["HEAD /a.png"] == 0
    assert plan_label(replace(config, input=f"{web.url}/list.txt")).run.new.num_rows == 0
    # A run goes on as it was planned, whatever the list says by then.
    again = plan_label(replace(config, input=f"{web.url}/list.txt", output=str(tmp_path / "again")))
    run = freeze(again)
    web.files["/list.txt"] = (f"{web.url}/b.png".encode(), "l2")
    finish(run, plan_label(replace(config, input=f"{web.url}/list.txt", output=str(tmp_path / "again"))))
    (row,) = [row for row in read_labels(str(tmp_path / "again")).to_pylist() if row["uri"] == str(secret)]
    assert row["error_type"] == "access_denied"
