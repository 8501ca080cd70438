"""Tars and Parquet tables through the label job: the same rows as a folder, each image once, whatever interrupts it.

The stages run in this process; `tests/chaos` runs them on Ray.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.cluster.nodes import Allocation
from ddpm_seg.data.exports import lance_merge
from ddpm_seg.data.inputs import members, sources
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.pipeline import execute, job
from ddpm_seg.pipeline.label import containers
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.job import LabelSummary, LabelWork, run_label
from ddpm_seg.pipeline.label.plan import LabelPlan, plan_label
from ddpm_seg.pipeline.publish import Shards
from ddpm_seg.pipeline.row import Row
from ddpm_seg.pipeline.stream import Stages, result
from ddpm_seg.runs.contents import Unit
from ddpm_seg.runs.planned import PlannedRun
from ddpm_seg.runs.upkeep.forgotten import record_forgotten
from ddpm_seg.runs.view import read_labels
from jobs import compact, export, forget
from tests.tiny_bundle import TASK, tiny_bundle

COLUMNS = ["image_id", "uri", "etag", "size_bytes", "status", "error_type", "error_message", "mask", "run_id"]


IN_FIRST = [f"a.tar#{seed:06d}.png" for seed in range(3)]


class Killed(BaseException):
    """The driver is killed here."""


def killed(*_: object) -> None:
    raise Killed


class Ways:
    """How the stages behave: how many chunks are made before the driver is killed, and what was done."""

    def __init__(self) -> None:
        self.chunks_left: int | None = None
        self.chunks: list[tuple[int, int, int]] = []
        self.looked_into: list[str] = []


@pytest.fixture
def ways() -> Ways:
    return Ways()


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch, ways: Ways) -> None:
    def stream(rows: Iterable[Row], stages: Stages, *rest: object, may_be_lost: int) -> Iterator[Row]:
        *_, run = rest
        assert isinstance(run, PlannedRun)
        actor = stages.actor(**stages.actor_arguments)
        for row in rows:
            if ways.chunks_left is not None and len(ways.chunks) >= ways.chunks_left:
                raise Killed
            done = actor(stages.before(row))
            table = stages.after(done)
            ways.chunks.append((row["shard"], row["chunk"], table.num_rows))
            yield result(done, table, run)

    def look_into_all(run: PlannedRun, units: list[Unit], choice: object, _: object, read_uris: dict[str, str]) -> None:
        for unit in units:
            ways.looked_into.append(unit.uri)
            containers.write_index_of(run, unit, read_uris.get(unit.uri, unit.uri), choice, False)  # type: ignore[arg-type]

    here = Allocation(actors=1, actor_cpus=1, actor_gpus=0, threads=1, task_cpus=0.5)
    monkeypatch.setattr(job, "_allocate", lambda work: here)
    monkeypatch.setattr(execute, "stream", stream)
    monkeypatch.setattr(containers, "look_into_all", look_into_all)
    monkeypatch.setattr(Shards, "_publish", lambda self, shard: self._note(shard, self._settle(shard)))


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(files: Iterable[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def samples(first: int, number: int) -> list[tuple[str, bytes]]:
    """WebDataset's samples: a picture, its mask and a caption each."""
    found: list[tuple[str, bytes]] = []
    for seed in range(first, first + number):
        found += [(f"{seed:06d}.png", picture(seed)), (f"{seed:06d}.json", b"{}"), (f"{seed:06d}.seg.png", picture(0))]
    return found


def table_of(images: list[bytes | None], column: str = "image") -> pa.Table:
    cells = [None if one is None else {"bytes": one, "path": f"{place}.png"} for place, one in enumerate(images)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.table({column: pa.array(cells, kind), "caption": [str(place) for place in range(len(images))]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def config_of(folder: Path, **options: object) -> LabelConfig:
    places = {"input": str(folder), "output": str(folder.parent / "out"), "model": str(folder.parent / "model")}
    return LabelConfig(**{**places, "chunk_size": 2, "shard_size": 4, **options})  # type: ignore[arg-type]


def label(folder: Path, **options: object) -> LabelSummary:
    return run_label(config_of(folder, **options))


def plan(folder: Path, **options: object) -> LabelPlan:
    return plan_label(config_of(folder, **options))


def every_row(folder: Path, output: str = "out") -> list[dict[str, object]]:
    """All rows of all shards, those too that later ones replace."""
    shards = sorted((folder.parent / output / "labels").rglob("shard-*.parquet"))
    return [row for shard in shards for row in pq.ParquetFile(shard).read(columns=COLUMNS).to_pylist()]


def by_name(folder: Path, output: str = "out") -> dict[str, dict[str, object]]:
    rows = read_labels(str(folder.parent / output), columns=COLUMNS).to_pylist()
    return {str(row["uri"]).removeprefix(f"{folder}/"): row for row in rows}


def assert_once(rows: list[dict[str, object]], number: int) -> None:
    assert Counter(row["image_id"] for row in rows).most_common(1)[0][1] == 1
    assert len(rows) == number


def test_tars_are_labelled_as_a_folder_is(folder: Path, ways: Ways) -> None:
    for number in range(3):
        (folder / f"{number:05d}.tar").write_bytes(tar_of(samples(number * 10, 5)))
    (folder / "alone.png").write_bytes(picture(99))
    dry = plan(folder)
    assert (dry.images, dry.containers, dry.run.new.num_rows) == (1, 3, 4)
    assert "3 tars or tables found, 3 of them new" in str(dry)
    summary = label(folder)
    assert (summary.images, summary.ok, len(ways.looked_into)) == (16, 16, 3)
    rows = every_row(folder)
    assert_once(rows, 16)
    plain = folder.parent / "plain"
    plain.mkdir()
    for number in range(3):
        for seed in range(number * 10, number * 10 + 5):
            (plain / f"{seed:06d}.png").write_bytes(picture(seed))
    label(plain, output=str(folder.parent / "other"))
    expected = by_name(plain, "other")
    found = {name: row for name, row in by_name(folder).items() if "#" in name}
    assert list(found) == [f"{int(name[:6]) // 10:05d}.tar#{name}" for name in expected]
    for (name, row), other in zip(found.items(), expected.values(), strict=True):
        assert (row["mask"], row["size_bytes"], row["status"]) == (other["mask"], other["size_bytes"], "ok"), name
    again = label(folder)
    assert (again.images, again.already_done) == (0, 4)


def test_a_kill_anywhere_loses_and_doubles_nothing(folder: Path, ways: Ways) -> None:
    (folder / "a.tar").write_bytes(tar_of(samples(0, 9)))
    (folder / "b.parquet").write_bytes(b"")
    pq.write_table(table_of([picture(seed) for seed in range(20, 27)]), folder / "b.parquet", row_group_size=3)
    label(folder, output=str(folder.parent / "quiet"))
    quiet = {name: row["mask"] for name, row in by_name(folder, "quiet").items()}
    assert len(quiet) == 16
    chunks = len(ways.chunks)
    for kill in range(chunks):
        ways.chunks, ways.chunks_left, ways.looked_into = [], kill, []
        output = folder.parent / f"killed-{kill}"
        with pytest.raises(Killed):
            label(folder, output=str(output))
        ways.chunks_left = None
        label(folder, output=str(output))
        assert len(ways.chunks) == len(set(ways.chunks)) == chunks  # no chunk is made twice
        assert len(ways.looked_into) == 2  # nor is a container walked twice
        assert_once(every_row(folder, output.name), 16)
        assert {name: row["mask"] for name, row in by_name(folder, output.name).items()} == quiet
        assert not list((output / "_chunks").rglob("*.parquet"))


@pytest.mark.parametrize("chunks_too", [False, True], ids=["container gone", "container and chunks gone"])
def test_a_kill_before_the_report_keeps_what_is_published(
    folder: Path, ways: Ways, monkeypatch: pytest.MonkeyPatch, chunks_too: bool
) -> None:
    (folder / "a.tar").write_bytes(tar_of(samples(0, 9)))  # three shards
    with monkeypatch.context() as patch:
        patch.setattr(LabelWork, "write_report", killed)
        with pytest.raises(Killed):
            label(folder)
    before = by_name(folder)
    (folder / "a.tar").unlink()
    (folder / "alone.png").write_bytes(picture(99))  # else there are no images at all
    if chunks_too:
        shutil.rmtree(folder.parent / "out" / "_chunks")
    label(folder)
    assert {name: row for name, row in by_name(folder).items() if name != "alone.png"} == before
    assert len(before) == 9
    assert len(ways.looked_into) == 1 + chunks_too
    assert not (folder.parent / "out" / "_set_aside").exists()


def test_a_kill_after_the_report_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.tar").write_bytes(tar_of(samples(0, 3)))
    with monkeypatch.context() as patch:
        patch.setattr(job, "delete_chunks", killed)
        with pytest.raises(Killed):
            label(folder)
    assert list((folder.parent / "out" / "_chunks").rglob("*.parquet"))
    assert label(folder).images == 0
    assert not list((folder.parent / "out" / "_chunks").rglob("*.parquet"))
    assert len(by_name(folder)) == 3


def test_a_new_tar_is_new_work_and_a_replaced_one_is_labelled_again(folder: Path) -> None:
    (folder / "0.tar").write_bytes(tar_of(samples(0, 3)))
    label(folder)
    (folder / "1.tar").write_bytes(tar_of(samples(10, 3)))
    assert label(folder).images == 3
    (folder / "0.tar").write_bytes(tar_of(samples(0, 4)))
    assert label(folder).images == 4
    assert label(folder).images == 0
    assert len(by_name(folder)) == 7


@pytest.mark.parametrize("limit", [None, 2])
def test_a_tar_that_is_put_back_is_labelled_again(folder: Path, limit: int | None) -> None:
    """Also if some of its images were once planned one by one, and after its output was compacted."""
    first, second = (tar_of(samples(start, number)) for start, number in ((0, 3), (1, 4)))
    path, places = folder / "a.tar", ["out", "compact"]
    path.write_bytes(first)
    label(folder, limit=limit)
    label(folder)
    when = path.stat()
    path.write_bytes(second)
    assert label(folder).images == 4
    assert compact.main([f"--labels={folder.parent}/out", f"--output={folder.parent}/compact"]) == 0
    path.write_bytes(first)
    os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))
    for place in places:
        output = str(folder.parent / place)
        assert label(folder, output=output).images == 3
        assert label(folder, output=output).images == 0
        assert len({row["run_id"] for name, row in by_name(folder, place).items() if name in IN_FIRST}) == 1


def test_a_tar_that_is_replaced_during_a_run_is_one_error_and_labelled_next(folder: Path, ways: Ways) -> None:
    (folder / "a.tar").write_bytes(tar_of(samples(0, 7)))
    (folder / "b.tar").write_bytes(tar_of(samples(20, 3)))
    ways.chunks_left = 1
    with pytest.raises(Killed):
        label(folder)
    ways.chunks_left = None
    (folder / "a.tar").write_bytes(tar_of(samples(0, 8)))
    (folder / "b.tar").unlink()
    label(folder)
    first = [row for row in every_row(folder) if row["run_id"] == "run-000001"]
    (shard,) = (folder.parent / "out" / "labels").rglob("run=run-000001/shard-00000.parquet")
    names = [Path(row["uri"]).name for row in pq.ParquetFile(shard).read(columns=["uri"]).to_pylist()]
    assert names == ["a.tar#000000.png", "a.tar"]  # in place of the other three images of this shard
    errors = [(Path(str(row["uri"])).name, row["error_type"]) for row in first if row["status"] == "error"]
    assert Counter(errors) == {("a.tar", "changed"): 2, ("b.tar", "not_found"): 1}
    assert_once(first, 4)
    second = [row for row in every_row(folder) if row["run_id"] == "run-000002"]
    assert_once(second, 8)
    assert {row["status"] for row in second} == {"ok"}


def test_limit_then_the_rest(folder: Path, ways: Ways) -> None:
    (folder / "a.tar").write_bytes(tar_of(samples(0, 5)))
    (folder / "b.tar").write_bytes(tar_of(samples(10, 5)))
    assert label(folder, limit=3).images == 3
    assert label(folder, limit=3).images == 3
    assert label(folder).images == 4
    assert_once(every_row(folder), 10)
    assert label(folder).images == 0
    (folder / "c.tar").write_bytes(tar_of(samples(20, 2)))
    assert label(folder, limit=2).images == 2
    assert label(folder).images == 0  # the new tar has nothing that is not labelled
    assert plan(folder).run.new.num_rows == 0


def test_only_failed_images_are_tried_again(folder: Path) -> None:
    (folder / "a.tar").write_bytes(tar_of([*samples(0, 3), ("bad.png", b"no picture"), ("link.png", b"")]))
    first = label(folder)
    assert (first.images, first.ok) == (5, 3)
    assert label(folder).images == 0
    assert label(folder, retry_errors=True).images == 2
    listed = folder.parent / "list.txt"
    listed.write_text("in/a.tar#000001.png\n")
    assert plan(folder, input=str(listed)).run.new.num_rows == 0
    assert plan(folder, redo=str(listed)).run.new["uri"].to_pylist() == [f"{folder}/a.tar#000001.png"]
    assert len(by_name(folder)) == 5


def test_damage_is_one_row_after_the_images_before_it(folder: Path) -> None:
    whole = tar_of(samples(0, 4))
    (folder / "cut.tar").write_bytes(whole[: len(whole) // 2])
    (folder / "none.tar").write_bytes(tar_of([("notes.txt", b"no picture")]))
    (folder / "rubbish.tar").write_bytes(os.urandom(5000))
    (folder / "packed.tgz").write_bytes(gzip.compress(whole))
    (folder / "torn.tar.gz").write_bytes(gzip.compress(whole)[:-2000])
    label(folder)
    rows = by_name(folder)
    assert_once(every_row(folder), len(rows))
    errors = {name: row["error_type"] for name, row in rows.items() if row["status"] == "error"}
    assert errors == {
        "cut.tar": "read_failed",
        "none.tar": "no_images",
        "rubbish.tar": "read_failed",
        "torn.tar.gz": "read_failed",
    }
    assert "not all images in it can be read" in str(rows["cut.tar"]["error_message"])
    assert [name for name in rows if name.startswith("packed")] == [
        "packed.tgz#000000.png",
        "packed.tgz#000001.png",
        "packed.tgz#000002.png",
        "packed.tgz#000003.png",
    ]
    assert label(folder).images == 0  # also containers without an image are done


def test_keys_columns_and_empty_cells(folder: Path) -> None:
    (folder / "a.tar").write_bytes(tar_of([("1.left.png", picture(1)), ("1.right.png", picture(2))]))
    assert label(folder, image_key="right.png").images == 1
    assert list(by_name(folder)) == ["a.tar#1.right.png"]
    assert label(folder).images == 2  # another choice of images is other work
    tables = folder.parent / "tables"
    tables.mkdir()
    pq.write_table(table_of([picture(1), None, b"bad"], "photo"), tables / "a.parquet")
    pq.write_table(pa.table({"caption": ["no image"]}), tables / "b.parquet")
    label(tables, output=str(folder.parent / "of tables"), image_column="photo")
    rows = by_name(tables, "of tables")
    assert {name: row["status"] for name, row in rows.items()} == {
        "a.parquet#photo/0": "ok",
        "a.parquet#photo/1": "error",
        "a.parquet#photo/2": "error",
    }
    data, _ = sources.read_image(f"{tables}/a.parquet#photo/0")
    assert data == picture(1)


def test_braces_and_the_trap(folder: Path) -> None:
    for number in range(4):
        (folder / f"{number:05d}.tar").write_bytes(tar_of(samples(number, 1)))
    dry = plan(folder, input=f"{folder}/{{00000..00002}}.tar")
    assert dry.containers == 3
    with pytest.raises(FileNotFoundError, match=r"00004.tar, which .*\{00003..00004\}"):
        plan(folder, input=f"{folder}/{{00003..00004}}.tar")
    beside = pa.table({"key": ["000"], "url": ["https://example.org/1.jpg"], "status": ["success"]})
    pq.write_table(beside, folder / "00000.parquet")
    with pytest.raises(ValueError, match=r"describes the images in .*00000.tar"):
        plan(folder, input=str(folder / "00000.parquet"))
    asked = plan(folder, input=str(folder / "00000.parquet"), uri_column="url", check_versions=False)
    assert asked.run.new["uri"].to_pylist() == ["https://example.org/1.jpg"]
    assert plan(folder).containers == 4


def test_what_was_read_is_what_was_planned(folder: Path) -> None:
    """The index of a container stays valid only for its version."""
    path = folder / "a.tar"
    path.write_bytes(tar_of(samples(0, 3)))
    planned = sources.info(str(path))
    found = members.look_into(planned, members.UNCHOSEN)
    assert [member.name for member in found.members] == ["000000.png", "000001.png", "000002.png"]
    places = [
        members.Place(container=found.version, name=one.name, start=one.start, size=one.size) for one in found.members
    ]
    assert list(members.read_places(places, 10**6)) == [picture(seed) for seed in range(3)]
    path.write_bytes(tar_of(samples(5, 3)))
    with pytest.raises(members.ContainerChangedError):
        list(members.read_places(places, 10**6))
    assert members.look_into(planned, members.UNCHOSEN).fault.startswith("changed: ")


def test_what_is_compacted_goes_on(folder: Path) -> None:
    for number in range(2):
        (folder / f"{number:05d}.tar").write_bytes(tar_of(samples(number * 10, 6)))  # two shards each
    (folder / "alone.png").write_bytes(picture(99))
    label(folder)
    (folder / "00000.tar").write_bytes(tar_of(samples(0, 7)))
    label(folder)
    before = by_name(folder)
    for source, place in (("out", "compact"), ("compact", "again")):
        arguments = ["--labels", str(folder.parent / source), "--output", str(folder.parent / place)]
        assert compact.main(arguments) == 0
        assert by_name(folder, place) == before
        assert plan(folder, output=str(folder.parent / place)).run.new.num_rows == 0
    (folder.parent / "again" / "runs" / "run-000002" / "report.html").unlink()
    assert label(folder, output=str(folder.parent / "again")).ok == 14  # looks at what there is, and writes the report
    assert by_name(folder, "again") == before
    (folder / "00001.tar").write_bytes(tar_of(samples(10, 7)))
    assert label(folder, output=str(folder.parent / "again")).images == 7


def test_masks_go_out_in_tars_of_the_same_names_and_keys(folder: Path) -> None:
    (folder / "00000.tar").write_bytes(tar_of(samples(0, 6)))
    pq.write_table(table_of([picture(1), None]), folder / "train.parquet")
    label(folder)
    output = folder.parent / "masks"
    arguments = ["--labels", str(folder.parent / "out"), "--output", str(output), "--to", "webdataset"]
    assert export.main(arguments) == 0
    assert sorted(path.name for path in output.glob("*.tar")) == ["00000.tar", "train.tar"]
    with tarfile.open(output / "00000.tar") as archive:
        names = [entry.name for entry in archive]
        expected = [f"{seed:06d}.{suffix}" for seed in range(6) for suffix in ("mask.png", "json")]
        assert names == expected
        mask = np.asarray(Image.open(io.BytesIO(archive.extractfile("000003.mask.png").read())))  # type: ignore[union-attr]
    assert mask.shape == (24, 40)
    with tarfile.open(output / "train.tar") as archive:
        assert archive.getnames() == ["0.mask.png", "0.json"]


def test_forgotten_images_leave_no_trace_and_do_not_come_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        (folder / f"{number:05d}.tar").write_bytes(tar_of(samples(number * 10, 6)))
    for seed in (97, 98, 99):
        (folder / f"person-{seed}.png").write_bytes(picture(seed))
    label(folder)
    label(folder, fit="stretch")
    listed = folder.parent / "gone.txt"
    listed.write_text("in/00000.tar#000003.png\nin/person-98.png\nin/00001.tar\n")
    before = by_name(folder)
    gone = {"00000.tar#000003.png", "person-98.png", *(name for name in before if name.startswith("00001.tar"))}
    arguments = ["--labels", str(folder.parent / "out"), "--uris", str(listed)]
    for words in ("8 images forgotten", "they had no rows"):  # a second time nothing is left to do
        assert forget.main(arguments) == 0
        assert words in capsys.readouterr().out
        assert by_name(folder) == {name: row for name, row in before.items() if name not in gone}
    for path in (folder.parent / "out").rglob("*"):
        if path.is_file():
            text = str(pq.read_table(path).to_pydict()) if path.suffix == ".parquet" else path.read_text()
            assert not [name for name in (*gone, "00001.tar#") if name in text], path
    summary = json.loads((folder.parent / "out" / "runs" / "run-000001" / "summary.json").read_text())
    assert (summary["images"], summary["ok"]) == (7, 7)
    for fit in ("letterbox", "stretch"):
        assert label(folder, fit=fit).images == 0
    (folder / "00000.tar").write_bytes(tar_of(samples(0, 7)))
    assert label(folder).images == 6
    assert "00000.tar#000003.png" not in by_name(folder)
    assert compact.main(["--labels", str(folder.parent / "out"), "--output", str(folder.parent / "new")]) == 0
    assert label(folder, output=str(folder.parent / "new")).images == 0
    (folder / "00000.tar").write_bytes(tar_of(samples(0, 8)))
    assert label(folder, output=str(folder.parent / "new")).images == 7
    assert not gone & by_name(folder, "new").keys()


def test_forgetting_waits_for_an_interrupted_run(folder: Path, ways: Ways) -> None:
    (folder / "a.tar").write_bytes(tar_of(samples(0, 5)))
    ways.chunks_left = 1
    with pytest.raises(Killed):
        label(folder)
    ways.chunks_left = None
    listed = folder.parent / "gone.txt"
    listed.write_text("in/a.tar#000000.png\n")
    arguments = ["--labels", str(folder.parent / "out"), "--uris", str(listed)]
    assert forget.main(arguments) == 2
    label(folder)
    assert forget.main(arguments) == 0
    assert len(by_name(folder)) == 4


def test_a_limit_is_filled_with_images_that_are_not_forgotten(folder: Path) -> None:
    (folder / "a.tar").write_bytes(tar_of(samples(0, 5)))
    record_forgotten(str(folder.parent / "out"), [f"{folder}/a.tar#{seed:06d}.png" for seed in (0, 2)])
    assert plan(folder, limit=2).run.new["uri"].to_pylist() == [f"{folder}/a.tar#{seed:06d}.png" for seed in (1, 3)]
    assert label(folder, limit=2).images == 2
    assert label(folder).images == 1


def test_what_the_libraries_themselves_write(folder: Path) -> None:
    """WebDataset's shards, Hugging Face's Parquet, and the files that img2dataset leaves beside its tars."""
    wds, datasets = pytest.importorskip("webdataset"), pytest.importorskip("datasets")
    with wds.ShardWriter(f"{folder}/%05d.tar", maxcount=3, verbose=0) as writer:
        for seed in range(7):
            writer.write({"__key__": f"{seed:09d}", "png": picture(seed), "json": {"seed": seed}, "txt": "a caption"})
    for number in range(3):
        pq.write_table(pa.table({"url": ["https://example.org/1.png"], "key": ["0"]}), folder / f"{number:05d}.parquet")
        (folder / f"{number:05d}_stats.json").write_text('{"count": 3}')
    images = [Image.open(io.BytesIO(picture(seed))) for seed in range(20, 24)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    data = datasets.Dataset.from_dict({"image": images, "label": range(4)}, features=features)
    data.to_parquet(str(folder / "train-00000-of-00001.parquet"))
    assert label(folder).ok == 11
    assert_once(every_row(folder), 11)
    names = [f"{seed // 3:05d}.tar#{seed:09d}.png" for seed in range(7)]
    assert list(by_name(folder)) == [*names, *(f"train-00000-of-00001.parquet#{row}" for row in range(4))]


def write_delta(uri: Path, images: list[bytes | None]) -> None:
    write_deltalake(str(uri), table_of(images), mode="append")


def write_lance(uri: Path, images: list[bytes | None]) -> None:
    lance.write_dataset(table_of(images), str(uri), mode="append" if uri.exists() else "create", max_rows_per_file=4)


@pytest.mark.parametrize("write", [write_delta, write_lance])
def test_a_table_that_grows_is_labelled_once(
    folder: Path, ways: Ways, write: Callable[[Path, list[bytes | None]], None]
) -> None:
    table = folder / "table"  # no name that tells its kind
    write(table, [picture(seed) for seed in range(7)])
    ways.chunks_left = 2
    with pytest.raises(Killed):
        label(folder, input=str(table))
    ways.chunks_left = None
    label(folder, input=str(table))
    assert_once(every_row(folder), 7)
    assert len(ways.chunks) == len(set(ways.chunks))
    write(table, [picture(7), None, picture(8)])
    second = label(folder, input=str(table))
    assert (second.ok, second.errors) == (2, {"read_failed": 1}), "only the rows that are new"
    assert_once(every_row(folder), 10)
    plain = folder.parent / "plain"
    plain.mkdir()
    for seed in range(9):
        (plain / f"{seed}.png").write_bytes(picture(seed))
    label(plain, output=str(folder.parent / "other"))
    masks = Counter(str(row["mask"]) for row in every_row(folder) if row["status"] == "ok")
    assert masks == Counter(str(row["mask"]) for row in every_row(plain, "other"))


def test_masks_go_into_the_lance_table_that_was_labelled(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = folder / "table"
    write_lance(table, [picture(seed) for seed in range(7)])
    label(folder, input=str(table))
    write_lance(table, [picture(7), None])
    before = lance.dataset(str(table))
    common = [f"--labels={folder.parent}/out", "--to=lance", f"--merge-into={table}"]
    assert export.main([*common, f"--output={folder.parent}/merged"]) == 0
    merged = lance.dataset(str(table))
    rows = merged.to_table().to_pylist()
    assert [row["image"] for row in rows] == before.to_table()["image"].to_pylist()
    wanted = masks_of(folder, merged)
    assert [row["ddpm_seg_mask"] is None for row in rows] == [False] * 7 + [True] * 2
    assert all(np.array_equal(pixels(row["ddpm_seg_mask"]), wanted[number]) for number, row in enumerate(rows[:7]))
    about = merged.schema.field("ddpm_seg_mask").metadata or {}
    assert json.loads(about[b"class_names"]) == list(TASK.class_names)
    assert label(folder, input=str(table)).ok == 1, "the row that is new, and no mask"
    assert export.main([*common, f"--output={folder.parent}/again"]) == 0
    again = lance.dataset(str(table))
    assert again.schema == merged.schema
    cells = again.to_table()["ddpm_seg_mask"].to_pylist()
    assert [cell is None for cell in cells] == [False] * 8 + [True]
    lance.dataset(str(table)).optimize.compact_files(target_rows_per_fragment=100)
    capsys.readouterr()
    assert export.main([*common, f"--output={folder.parent}/gone"]) == 2
    assert "none of the labelled images lies in a file" in capsys.readouterr().err
    assert lance.dataset(str(table)).to_table()["ddpm_seg_mask"].to_pylist() == cells, "nothing was taken away"


def test_an_interrupted_merge_takes_no_masks_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = folder / "table"
    write_lance(table, [picture(seed) for seed in range(3)])
    label(folder, input=str(table))
    command = [f"--labels={folder.parent}/out", "--to=lance", f"--merge-into={table}"]
    assert export.main([*command, f"--output={folder.parent}/merged"]) == 0
    before = lance.dataset(str(table)).to_table()
    real = lance_merge._filled

    def interrupted(*arguments: Any) -> Iterator[pa.RecordBatch]:
        assert "ddpm_seg_mask" not in lance.dataset(str(table)).schema.names
        yield next(real(*arguments)).slice(0, 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(lance_merge, "_filled", interrupted)
    assert export.main([*command, f"--output={folder.parent}/again"]) != 0
    assert lance.dataset(str(table)).to_table().equals(before, check_metadata=True)
    monkeypatch.setattr(lance_merge, "_filled", real)
    assert export.main([*command, f"--output={folder.parent}/last"]) == 0
    assert lance.dataset(str(table)).to_table().equals(before, check_metadata=True)


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)))


def masks_of(folder: Path, table: Any) -> dict[int, NDArray[np.uint8]]:
    """The masks that were labelled, by the number of the row in the table."""
    first, starts = 0, {}
    for fragment in table.get_fragments():
        starts |= {Path(file.path).name: first for file in fragment.data_files()}
        first += fragment.physical_rows
    found = {}
    for row in read_labels(f"{folder.parent}/out", columns=["uri", "mask"]).to_pylist():
        file, _, number = row["uri"].rpartition("/")[2].partition("#")
        found[starts[file] + int(number)] = pixels(row["mask"]["bytes"])
    return found
