from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import datasets
import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds
from PIL import Image

from ddpm_seg import read_labels, read_samples, storage
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.data.sample_names import SampleFinder, SampleName
from ddpm_seg.data.table_pictures import encode_png, row_image
from ddpm_seg.runs.layout import uris_under
from ddpm_seg.tasks import TASKS
from jobs.export import main
from tests.boxed_samples import SIZE, publish_boxes
from tests.runs.nightly_runs import labelled, night
from tests.tiny_bundle import TASK

KEPT = ["uri", "caption", "url", "width", "txt"]
FORMATS = ["coco", "png", "huggingface", "fiftyone", "label-studio", "cvat", "lance"]


def write_nights(output: str, folder: str) -> None:
    """Four labelled images under `folder`, two of one name, and an error; of them one is gone and one is another."""
    images = {}
    for number, name in enumerate(["a/x.png", "b/x.png", "gone.png", "changed.png", "broken.png"]):
        mask = np.full((10, 10), number % 3, np.uint8)
        if name != "gone.png":
            size = (10, 12) if name == "changed.png" else (10, 10)
            storage.write_bytes(f"{folder}/{name}", encode_png(np.full((*size, 3), number, np.uint8)))
        row = labelled(number, 0.1 * number, **{TASK.class_names[number % 3]: 1.0})
        row["mask"] = {"bytes": encode_png(mask), "path": None}
        images[name] = row if name != "broken.png" else {"error_type": "empty", "error_message": "no bytes"}
    night(output, 1, images, prefix=folder)


@pytest.mark.parametrize("to", FORMATS)
def test_each_format_through_a_bucket(s3: Callable[[], str], to: str, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = s3()
    write_nights(f"{prefix}/labels", f"{prefix}/in")
    arguments = [f"--labels={prefix}/labels", f"--to={to}", f"--output={prefix}/out"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    expected = 4 if to == "label-studio" else 2
    assert f"{expected} images to {prefix}/out; left out: 1 without a mask" in said
    assert ("1 changed, 1 not readable" in said) == (to != "label-studio")
    assert uris_under(f"{prefix}/out")
    assert main(arguments) == 2
    assert "is not empty" in capsys.readouterr().err


def test_filters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nights(str(tmp_path / "labels"), str(tmp_path / "in"))
    common = [f"--labels={tmp_path / 'labels'}", "--to=huggingface"]
    assert main([*common, f"--output={tmp_path / 'one'}", "--classes", "red", "green", "--most-uncertain=2"]) == 0
    assert "1 images" in capsys.readouterr().out  # green.png is gone
    loaded = datasets.load_dataset(str(tmp_path / "one"), split="train", cache_dir=str(tmp_path / "cache"))
    assert [Path(uri).parent.name for uri in loaded["uri"]] == ["b"]
    assert main([*common, f"--output={tmp_path / 'two'}", "--min-uncertainty=3"]) == 2
    assert "nothing to export: of 5 images, 1 have errors and 4 do not" in capsys.readouterr().err


def write_containers(folder: Path) -> list[str]:
    """A tar and a table of images with captions; returns the images' names below `folder`."""
    picture = encode_png(np.zeros((10, 10, 3), np.uint8))
    folder.mkdir()
    with wds.TarWriter(str(folder / "0.tar")) as tar:
        for number in range(3):
            about = {"url": f"http://a/{number}", "width": 10} | ({"caption": "of JSON"} if number == 2 else {})
            tar.write({"__key__": f"a/{number}", "png": picture, "txt": f"text {number}", "json": about})
    rows = [
        {"image": {"bytes": picture, "path": "x.png"}, "caption": f"row {n}", "url": "http://b", "width": n, "x": n}
        for n in range(2)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "1.parquet")
    storage.write_bytes(str(folder / "alone.png"), picture)
    return [*(f"0.tar#a/{number}.png" for number in range(3)), "1.parquet#0", "1.parquet#1", "alone.png"]


def test_what_lies_beside_the_images_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = labelled(0, 0.5, red=1.0)
    row["mask"] = {"bytes": encode_png(np.zeros((10, 10), np.uint8)), "path": None}
    names = write_containers(tmp_path / "in")
    night(str(tmp_path / "labels"), 1, dict.fromkeys(names, row), prefix=str(tmp_path / "in"))
    common = [f"--labels={tmp_path / 'labels'}", "--keep", "caption", "url", "width", "txt"]
    assert main([*common, "--to=huggingface", f"--output={tmp_path / 'table'}"]) == 0
    loaded = datasets.load_dataset(str(tmp_path / "table"), split="train", cache_dir=str(tmp_path / "cache"))
    found = {uri.rpartition("in/")[2]: kept for uri, *kept in zip(*(loaded[name] for name in KEPT), strict=True)}
    expected = {
        "0.tar#a/0.png": [None, "http://a/0", 10, "text 0"],
        "0.tar#a/1.png": [None, "http://a/1", 10, "text 1"],
        "0.tar#a/2.png": ["of JSON", "http://a/2", 10, "text 2"],
        "1.parquet#0": ["row 0", "http://b", 0, None],
        "1.parquet#1": ["row 1", "http://b", 1, None],
        "alone.png": [None, None, None, None],
    }
    assert found == expected
    assert main([*common, "--to=lance", f"--output={tmp_path / 'lance'}"]) == 0
    table = lance.dataset(f"{tmp_path / 'lance'}/labels.lance").to_table()
    assert {
        uri.rpartition("in/")[2]: kept for uri, *kept in zip(*(table[name].to_pylist() for name in KEPT), strict=True)
    } == expected
    masks = [Image.open(io.BytesIO(cell["bytes"])) for cell in table["mask"].to_pylist()]
    assert all(np.array_equal(np.asarray(mask), np.zeros((10, 10))) for mask in masks)
    assert len(list(list_images(f"{tmp_path / 'lance'}/labels.lance").files)) == len(names), "an input again"
    assert main([*common, "--to=webdataset", f"--output={tmp_path / 'tars'}"]) == 0
    tars = sorted(str(path) for path in (tmp_path / "tars").glob("*.tar"))
    about = [json.loads(one["json"]) for one in wds.WebDataset(tars, shardshuffle=False)]
    assert {one["uri"].rpartition("in/")[2]: [one[name] for name in KEPT[1:]] for one in about} == expected
    capsys.readouterr()
    assert main([common[0], "--to=huggingface", "--keep=title", f"--output={tmp_path / 'no'}"]) == 2
    assert "no exported image has it" in capsys.readouterr().err
    refused = {
        ("--to=coco", "--keep=caption"): "--to coco has no place for it",
        ("--to=huggingface", "--keep=uri"): "the export has a uri of its own",
        ("--to=coco", "--merge-into=table"): "so it goes with --to lance, not coco",
        ("--to=lance", "--merge-into=table", "--keep=caption"): "leave out --keep",
    }
    for number, (flags, message) in enumerate(refused.items()):
        with pytest.raises(SystemExit):
            main([common[0], *flags, f"--output={tmp_path / f'no{number}'}"])
        assert message in capsys.readouterr().err


def test_only_accepted_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nights(str(tmp_path / "labels"), str(tmp_path / "in"))
    verdicts = tmp_path / "verdicts.csv"
    verdicts.write_text("uri,verdict\nin/a/x.png,accept\nin/b/x.png,reject\nin/broken.png,accept\n")
    common = [f"--labels={tmp_path / 'labels'}", "--to=png", f"--only={verdicts}"]
    assert main([*common, f"--output={tmp_path / 'one'}"]) == 0
    assert "1 images" in capsys.readouterr().out
    assert (tmp_path / "one/pictures.csv").read_text().splitlines()[1].split(",")[1] == f"{tmp_path}/in/a/x.png"
    verdicts.write_text("uri\nelsewhere.png\n")
    assert main([*common, f"--output={tmp_path / 'two'}"]) == 2
    assert "elsewhere.png" in capsys.readouterr().err


def test_a_corrected_mask_comes_back(tmp_path: Path) -> None:
    write_nights(str(tmp_path / "labels"), str(tmp_path / "in"))
    common = [f"--labels={tmp_path / 'labels'}", "--max-uncertainty=0.15"]
    assert main([*common, "--to=png", f"--output={tmp_path / 'png'}"]) == 0
    assert main([*common, "--to=label-studio", f"--output={tmp_path / 'ls'}"]) == 0
    first, second = sorted((tmp_path / "png" / "masks").iterdir())
    mask = np.asarray(Image.open(first)).copy()
    mask[2:5, 3:9] = 3
    Image.fromarray(mask).save(first)
    found = load_annotations(str(tmp_path / "png"), image_size=10, task=TASK)
    assert np.array_equal(found[0].label, mask)
    assert np.array_equal(found[1].label, np.asarray(Image.open(second)))

    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    for task in tasks:  # accepted as they are
        task["annotations"] = task.pop("predictions")
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    accepted = load_annotations(str(tmp_path / "export.json"), image_size=10, task=TASK)
    rows = read_labels(str(tmp_path / "labels")).to_pylist()[:2]
    assert [one.uri for one in accepted] == [row["uri"] for row in rows]
    assert [np.unique(one.label).tolist() for one in accepted] == [[0], [1]]


@pytest.mark.parametrize("to", FORMATS)
def test_nothing_is_written_outside_of_the_output(tmp_path: Path, to: str) -> None:
    write_nights(str(tmp_path / "labels"), str(tmp_path / "in"))
    (shard, *_) = sorted((tmp_path / "labels").rglob("labels/**/shard-*.parquet"))
    table = pq.ParquetFile(shard).read()
    ids = pa.array([f"/../../../AB{number}" for number in range(table.num_rows)], pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("image_id"), "image_id", ids), shard)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    out = tmp_path / "deep" / "down" / "out"
    assert main([f"--labels={tmp_path / 'labels'}", f"--to={to}", f"--output={out}"]) == 0
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert after > before
    assert all(path.is_relative_to(out) for path in after - before)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--labels=nowhere", "--to=png"], "no labels table"),
        (["--to=png", "--most-uncertain=0"], "--most-uncertain must be at least 1, got 0"),
        (["--to=png", "--classes=hat"], "'hat': tiny-5 has the classes"),
        (["--to=photoshop"], "photoshop"),
    ],
)
def test_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    write_nights(str(tmp_path / "labels"), str(tmp_path / "in"))
    try:
        status: object = main([f"--labels={tmp_path / 'labels'}", f"--output={tmp_path / 'out'}", *flags])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


# Samples, whose pictures stand in the table.


@pytest.mark.parametrize("to", ["png", "coco", "cvat"])
def test_samples_come_back_by_name(tmp_path: Path, to: str) -> None:
    """Masks that were drawn on exported samples say of which sample they are."""
    publish_boxes(tmp_path / "samples", 5)
    out = tmp_path / "out"
    assert main([f"--samples={tmp_path / 'samples'}", f"--to={to}", f"--output={out}"]) == 0
    file = {"png": out, "coco": out / "annotations.json", "cvat": out / "annotations.xml"}[to]
    found, finder = load_annotations(str(file), image_size=SIZE, task=TASKS["avatars_10"]), SampleFinder()
    samples = {finder.find(one.uri): one.image for one in found}
    rows = read_samples(str(tmp_path / "samples"), columns=["uri", "image", "width", "height"]).to_pylist()
    assert {SampleName.parse(row["uri"]) for row in rows} == samples.keys()
    for row in rows:
        np.testing.assert_array_equal(samples[SampleName.parse(row["uri"])], row_image(row))


def test_samples_without_masks_are_images_to_annotate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_boxes(tmp_path / "samples", 3, labelled=False)
    given = [f"--samples={tmp_path / 'samples'}", f"--output={tmp_path / 'out'}"]
    for wrong, message in [
        (["--to=coco"], "the samples have no masks, but --to coco needs them; use --to png"),
        (["--to=png", "--most-uncertain=2"], "no masks to select by"),
    ]:
        assert main([*given, *wrong]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    for options, message in [("label-studio", "use --to coco"), ("png", "give either --labels")]:
        labels = ["--labels=x"] if options == "png" else []
        with pytest.raises(SystemExit, match="2"):
            main([*given, f"--to={options}", *labels])
        assert message in capsys.readouterr().err
    assert main([*given, "--to=png"]) == 0
    files = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*"))
    assert len([file for file in files if file.parent.name == "images"]) == 3
    assert {str(file) for file in files if file.parent.name != "images"} == {"README.md", "pictures.csv"}
    finder = SampleFinder()
    images = list((tmp_path / "out" / "images").iterdir())
    assert sorted(finder.find(str(path)) for path in images) == [SampleName(0, number) for number in range(3)]


def write_certain(output: str, folder: Path, number: int) -> None:
    """Labelled images with confidence, and annotations that differ where it is low."""
    folder.mkdir()
    rows = {}
    for index in range(number):
        draw = np.random.default_rng(index)
        mask = draw.integers(0, 3, (10, 10)).astype(np.uint8)
        confidence = draw.integers(100, 256, (10, 10)).astype(np.uint8)
        target = np.where((confidence < 140) & (draw.random((10, 10)) < 0.5), (mask + 1) % 3, mask)
        Image.fromarray(draw.integers(0, 256, (10, 10, 3), dtype=np.uint8)).save(folder / f"{index:03d}.png")
        np.save(folder / f"{index:03d}.npy", target)
        row = labelled(index, 0.1, **{TASK.class_names[0]: 0.5})
        rows[f"{index:03d}.png"] = row | {
            "mask": {"bytes": encode_png(mask), "path": None},
            "confidence_map": {"bytes": encode_png(confidence), "path": None},
        }
    night(output, 1, rows, prefix=str(folder))


def test_a_target_error_leaves_out_what_is_not_sure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_certain(str(tmp_path / "labels"), tmp_path / "images", 120)
    common = [f"--labels={tmp_path / 'labels'}", "--to=png", f"--calibration={tmp_path / 'images'}"]
    assert main([*common, f"--output={tmp_path / 'all'}", "--target-error=99%"]) == 0
    assert main([*common, f"--output={tmp_path / 'sure'}", "--target-error=2%"]) == 0
    found, every = (load_annotations(str(tmp_path / name), image_size=10, task=TASK) for name in ("sure", "all"))
    left = np.mean([(one.label == 255).mean() for one in found])
    assert 0.1 < left < 0.3  # of a quarter of the pixels half are wrong
    wrong = [
        ((one.label != 255) & (one.label != np.load(tmp_path / "images" / f"{index:03d}.npy"))).mean()
        for index, one in enumerate(found)
    ]
    assert 0.005 < np.mean(wrong) <= 0.02
    assert all((one.label != 255).all() for one in every)
    assert "120 calibration images" in (tmp_path / "sure" / "README.md").read_text()
    capsys.readouterr()
    assert main([*common, f"--output={tmp_path / 'few'}", "--target-error=0.5%"]) == 2
    assert "at least 199 calibration images, but there are 120" in capsys.readouterr().err


def test_a_target_error_needs_confidence_and_labelled_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_certain(str(tmp_path / "labels"), tmp_path / "images", 25)
    write_nights(str(tmp_path / "plain"), str(tmp_path / "in"))
    common = ["--to=png", f"--output={tmp_path / 'out'}", "--target-error=5%", f"--calibration={tmp_path / 'images'}"]
    assert main([f"--labels={tmp_path / 'plain'}", *common]) == 2
    assert "ddpm-seg label --maps" in capsys.readouterr().err
    Image.fromarray(np.full((10, 10, 3), 9, np.uint8)).save(tmp_path / "images" / "new.png")
    np.save(tmp_path / "images" / "new.npy", np.zeros((10, 10), np.uint8))
    assert main([f"--labels={tmp_path / 'labels'}", *common]) == 2
    assert "label it too, or leave it out" in capsys.readouterr().err
