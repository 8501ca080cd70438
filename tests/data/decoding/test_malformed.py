"""Hundreds of malformed files: each becomes one row, and none harms other images or the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ddpm_seg import storage
from ddpm_seg.cluster import nodes
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS, FORMATS
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.job import run_label
from ddpm_seg.pipeline.label.rows import FittedImage, ImageInput, LabelSpec, fetch
from ddpm_seg.runs.manifest import stored_uri
from ddpm_seg.runs.view import read_labels
from tests.data.decoding.malformed_images import (
    malformed_files,
    readable_after_all,
    strict_pillow_reads,
    write_malformed,
)
from tests.label_spec import label_spec
from tests.tiny_bundle import TASK, tiny_bundle

# What a file can be wrong in. A time-out or a crash is not among them: these files should bring about neither.
ERRORS = {"empty", "too_many_pixels", "unidentified", "format_not_allowed", "truncated", "corrupt", "out_of_memory"}
IMPORTED_BYTES = 100_000_000  # what a decoder takes before its first image, rounded up


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("malformed") / "in"
    write_malformed(folder)
    return folder


@pytest.fixture(scope="module")
def spec() -> LabelSpec:
    return label_spec("/out", TASK)


def fetch_all(paths: Iterable[Path], spec: LabelSpec, threads: int) -> dict[str, FittedImage]:
    def fetch_one(path: Path) -> FittedImage:
        uri = stored_uri(str(path))
        return fetch(ImageInput(image_id=uri, uri=uri, read_uri=str(path), etag=None, size_bytes=None), spec)

    with ThreadPoolExecutor(threads) as pool:
        return {image.source.uri: image for image in pool.map(fetch_one, paths)}


@pytest.fixture(scope="module")
def fetched(folder: Path, spec: LabelSpec) -> dict[str, FittedImage]:
    return fetch_all((Path(file.uri) for file in list_images(str(folder)).files), spec, threads=4)


def test_the_same_seed_gives_the_same_files() -> None:
    files = malformed_files()
    assert len(files) >= 300
    assert files == malformed_files()
    assert files != malformed_files(seed=1)


def test_folders_dead_links_and_pipes_have_no_row_and_all_else_has_one(tmp_path: Path) -> None:
    expected = write_malformed(tmp_path / "in")
    assert [file.uri for file in list_images(str(tmp_path / "in")).files] == [str(path) for path in expected]


@pytest.mark.filterwarnings("ignore")
def test_a_file_is_ok_where_strict_pillow_reads_it_and_a_named_error_elsewhere(
    folder: Path, fetched: dict[str, FittedImage]
) -> None:
    for image in fetched.values():
        data = Path(image.source.read_uri).read_bytes()
        if strict_pillow_reads(data, FORMATS, DEFAULT_LIMITS.max_pixels):
            assert image.error_type is None, image
        elif image.error_type is None:
            assert readable_after_all(data), image
        assert (image.error_type is None) == (image.canvas is not None)
        assert image.error_type is None or image.error_type in ERRORS, image
        assert image.error_message is None or image.error_message.isprintable()
    assert {image.error_type for image in fetched.values()} == ERRORS | {None}


def test_neither_order_nor_neighbours_change_a_row(
    folder: Path, spec: LabelSpec, fetched: dict[str, FittedImage]
) -> None:
    again = fetch_all((Path(image.source.read_uri) for image in reversed(fetched.values())), spec, threads=2)
    assert {uri: outcome(image) for uri, image in again.items()} == {u: outcome(image) for u, image in fetched.items()}


def outcome(image: FittedImage) -> tuple[object, ...]:
    pixels = None if image.canvas is None else image.canvas.tobytes()
    return image.error_type, image.error_message, image.placement, pixels


def test_the_label_job_over_the_folder(
    folder: Path,
    fetched: dict[str, FittedImage],
    ray_cluster: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nodes, "connect", lambda: [nodes.Node(cpus=2, gpus=0)])
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    config = LabelConfig(input=str(folder), output=str(tmp_path / "out"), model=str(tmp_path / "model"), num_actors=1)
    summary = run_label(config)

    rows = read_labels(config.output, columns=["uri", "status", "error_type", "error_message"]).to_pylist()
    assert [row["uri"] for row in rows] == sorted(fetched)
    for row in rows:
        image = fetched[row["uri"]]
        assert (row["error_type"], row["error_message"]) == (image.error_type, image.error_message)
        assert row["status"] == ("ok" if image.error_type is None else "error")
    assert summary.images == len(rows) >= 300

    names = [file.uri.removeprefix(config.output) for file in storage.list_files(config.output)]
    assert all(re.fullmatch(r"[\w/=.-]+", name) for name in names), "no file's name is in a path"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]
    assert not list(Path.cwd().glob("*pwned*"))
    assert summary.report is not None
    assert b"<script>alert(1)" not in storage.read_bytes(summary.report)
    peaks = decoder_peaks()
    assert peaks
    assert max(peaks) < DEFAULT_LIMITS.decode_memory + IMPORTED_BYTES


def decoder_peaks() -> list[int]:
    """Most bytes of memory that each of the decoders on this machine has held."""
    peaks = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"ddpm_seg.data.decoding.child" in (process / "cmdline").read_bytes():
                peaks += re.findall(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
        except OSError:  # it ended meanwhile
            continue
    return [int(peak) * 1024 for peak in peaks]
