"""Published samples as a table: all that read_samples, curate and distill need, whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ddpm_seg
from ddpm_seg.data.table_pictures import row_image, row_mask
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.pipeline.generate import published as module
from ddpm_seg.pipeline.generate.published import convert_samples
from ddpm_seg.runs.fresh_output import MARK
from ddpm_seg.runs.manifest import read_manifest
from ddpm_seg.training.student.sample_stream import SampleStream
from jobs import convert, curate, distill
from tests.published_samples import published, write
from tests.schema_reference import check_columns, check_keys

COUNT = 60


@pytest.fixture
def config(tmp_path: Path) -> ConvertConfig:
    uri = write(tmp_path / "gan" / "samples.npz", *published(COUNT))
    return ConvertConfig(gan_samples=uri, task="cat_15", output=str(tmp_path / "samples"))


def test_the_table_holds_the_file(config: ConvertConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_SIZE", 25)
    layout = convert_samples(config).layout
    table = ddpm_seg.read_samples(config.output)
    check_columns("samples", table.schema)
    images, labels, _, uncertainty = published(COUNT)
    rows = table.to_pylist()
    for number, row in enumerate(rows):
        assert (row["uri"], row["number"]) == (f"samples.npz#{number:09d}", number)
        assert np.array_equal(row_image(row), images[number])
        assert np.array_equal(row_mask(row), labels[number])
        assert row["uncertainty"] == uncertainty[number]
        assert [one["class_id"] for one in row["classes"]] == np.unique(labels[number]).tolist()
        assert sum(one["pixels"] for one in row["classes"]) == labels[number].size
    assert {row["status"] for row in rows} == {"ok"}
    assert read_manifest(layout.manifest).shard_sizes() == {0: (25, 1), 1: (25, 1), 2: (10, 1)}
    for name in ("run.json", "summary.json"):
        check_keys(name, json.loads((Path(layout.folder) / name).read_text()))


def test_a_second_time_nothing_is_done(config: ConvertConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = convert_samples(config)
    monkeypatch.setattr(module, "_Conversion", None)
    assert convert_samples(config) == first


def test_an_interrupted_conversion_begins_anew(config: ConvertConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "create_manifest", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            convert_samples(config)
    assert (Path(config.output) / MARK).exists()
    convert_samples(config)
    assert not (Path(config.output) / MARK).exists()
    assert ddpm_seg.read_samples(config.output).num_rows == COUNT


def test_of_a_file_that_is_damaged_further_on_nothing_stays(
    config: ConvertConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong checksum shows at the end only, when most of the samples are written."""
    monkeypatch.setattr(module, "SHARD_SIZE", 10)
    assert config.gan_samples is not None
    path = Path(config.gan_samples)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"samples\.npz: .*arr_0\.npy"):
        convert_samples(config)
    with pytest.raises(FileNotFoundError):
        ddpm_seg.read_samples(config.output)


def test_a_task_with_too_few_classes_is_refused(config: ConvertConfig, tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text("class_names: [ground, box]")
    arguments = ["--gan-samples", str(config.gan_samples), "--output", config.output]
    with pytest.raises(ValueError, match="sample 1 has class 2, but two has 2 classes; give the --task that"):
        convert_samples(replace(config, task=str(tmp_path / "two.yaml")))
    assert convert.main([*arguments]) == 2
    assert convert.main([*arguments, "--task", "cat_15", "--image-size", "64"]) == 2


def test_a_student_learns_from_them(config: ConvertConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--gan-samples", str(config.gan_samples), "--task", "cat_15", "--output", config.output]
    assert convert.main(given) == 0
    assert f"ddpm-seg curate --samples {config.output}" in capsys.readouterr().out
    assert curate.main(["--samples", config.output, "--ignore-above", "0.1"]) == 2
    assert "leave it out" in capsys.readouterr().err
    assert curate.main(["--samples", config.output, "--published-filter"]) == 0
    assert SampleStream(config.output).num_samples == COUNT - 30 - COUNT // 10
    how = ["--backbone", "mobilenet_v3_large", "--resolution", "32", "--epochs", "1", "--batch-size", "4"]
    assert distill.main(["--samples", config.output, "--output", str(tmp_path / "student"), *how]) == 0
    mask = ddpm_seg.load(str(tmp_path / "student"))(np.zeros((16, 16, 3), np.uint8)).mask
    assert mask.shape == (16, 16)
