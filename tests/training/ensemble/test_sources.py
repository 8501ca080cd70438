"""Annotated samples of a network that labels only what it draws: drawn again, compared, and read from the same pass."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.sample_names import SampleName
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle, save_bundle
from ddpm_seg.model.networks.style.stylegan2 import StyleGAN2Config
from ddpm_seg.model.resident import resident_drawer
from ddpm_seg.model.samples.sampling import SamplingConfig
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble.feature_files import FeatureExtractor, feature_uris, read_features
from ddpm_seg.training.ensemble.train import train_from_config
from ddpm_seg.training.ensemble.train_config import TrainConfig
from tests.model.networks.style.test_stylegan2 import generator

CONFIG = StyleGAN2Config(image_size=16, channels=(12, 8, 10), mapping=(6, 9, 7))
BUNDLE = Bundle(network=CONFIG, weights=dict(generator(CONFIG).state_dict()))


def pictures(count: int, seed: int = 3, truncation: float = 0.7) -> list[np.ndarray]:
    drawer = resident_drawer(BUNDLE, SamplingConfig(truncation=truncation), "cpu")
    return [one.image for one in drawer.draw(seed, range(count)) if one.image is not None]


def as_jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)  # of noise; photographs survive more
    return buffer.getvalue()


def table(path: Path, images: list[bytes], uris: list[str] | None = None) -> str:
    """Rows of samples 0, 1, ... of seed 3, whose bright pixels are class 1."""
    uris = uris or [str(SampleName(3, number)) for number in range(len(images))]
    masks = [encode_png((np.asarray(Image.open(io.BytesIO(data)))[..., 0] > 128).astype(np.uint8)) for data in images]
    pq.write_table(pa.table({"uri": uris, "image": images, "mask": masks}), path)
    return str(path)


def train(tmp_path: Path, images: str, **options: object) -> Bundle:
    model, output = str(tmp_path / "gan"), str(tmp_path / "trained")
    save_bundle(BUNDLE, model)
    few = {"members": 2, "iterations": 5, "device": "cpu", "num_actors": 0, **options}
    return train_from_config(TrainConfig(model=model, images=images, task="avatars_10", output=output, **few))  # type: ignore[arg-type]


@pytest.mark.parametrize("encode", [encode_png, as_jpeg])
def test_samples_are_learnt_from_the_pass_that_draws_them(tmp_path: Path, encode: object) -> None:
    images = table(tmp_path / "annotated.parquet", [encode(one) for one in pictures(6)])  # type: ignore[operator]
    trained = train(tmp_path, images)
    assert trained.features is not None
    assert trained.features.truncation == 0.7
    assert trained.features.blocks == (0, 1, 2, 3, 4, 5)
    assert load_bundle(str(tmp_path / "trained")).features == trained.features
    assert [one["uri"] for one in trained.provenance["learnt_from"]] == [str(SampleName(3, i)) for i in range(6)]


def test_at_another_truncation(tmp_path: Path) -> None:
    images = table(tmp_path / "annotated.parquet", list(map(encode_png, pictures(4, truncation=0.3))))
    with pytest.raises(AnnotationError, match=r"row 0: it shows another picture than .*this --truncation \(0\.7\)"):
        train(tmp_path, images)
    trained = train(tmp_path, images, truncation=0.3)
    assert trained.features is not None
    assert trained.features.truncation == 0.3


def test_a_picture_of_another_sample_is_named(tmp_path: Path) -> None:
    images = list(map(encode_png, pictures(6)))
    images[2], images[4] = images[4], images[2]
    with pytest.raises(AnnotationError) as refused:
        train(tmp_path, table(tmp_path / "annotated.parquet", images))
    assert "annotated.parquet, row 2: it shows another picture than sample:3/000000002" in str(refused.value)
    assert "annotated.parquet, row 4: it shows another picture than sample:3/000000004" in str(refused.value)
    assert "row 3" not in str(refused.value)
    assert not (tmp_path / "trained" / "bundle.json").exists()


def test_pictures_that_are_no_samples_are_named(tmp_path: Path) -> None:
    uris = ["sample 0", str(SampleName(3, 1)), "s3://photos/cat.jpg"]
    path = table(tmp_path / "annotated.parquet", list(map(encode_png, pictures(3))), uris)
    with pytest.raises(AnnotationError, match=r"row 2; .*annotated\.parquet, row 0: not known as samples"):
        train(tmp_path, path)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"mirror": True}, "--mirror needs features of other images"),
        ({"recolour": 2}, "--recolour needs features of other images"),
        ({"validation": "x"}, "--validation needs features of other images"),
        ({"steps": (50,)}, "this is a StyleGAN2"),
        ({"truncation": 1.5}, "truncation must be at most 1"),
    ],
)
def test_wrong_use(tmp_path: Path, option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(tmp_path, "nowhere", **option)


def test_features_are_those_of_the_drawing(tmp_path: Path) -> None:
    features = dataclasses.replace(CONFIG.published_features(), blocks=(1, 4))
    sample = SampleName(3, 5)
    drawer = resident_drawer(BUNDLE, SamplingConfig(), "cpu")
    (drawn,) = drawer.draw(3, [5], features)
    FeatureExtractor(BUNDLE, features, "cpu").write(sample, str(tmp_path / "maps"))
    assert drawn.maps is not None
    for found, expected in zip(read_features(str(tmp_path / "maps")), drawn.maps, strict=True):
        assert torch.equal(found, expected.half())


def test_activations_are_named_by_sample_and_truncation() -> None:
    features = CONFIG.published_features()
    samples = [SampleName(0, 1), SampleName(1, 0), SampleName(0, 2)]
    names = feature_uris(BUNDLE, samples, features, "/f")
    names += feature_uris(BUNDLE, samples, dataclasses.replace(features, truncation=0.5), "/f")
    assert len(set(names)) == 6
    assert feature_uris(BUNDLE, samples, features, "/f") == names[:3]


@pytest.mark.slow
def test_tuning_chooses_blocks(tmp_path: Path) -> None:
    images = table(tmp_path / "annotated.parquet", list(map(encode_png, pictures(4))))
    trained = train(tmp_path, images, tune=True)
    assert trained.features is not None
    assert trained.features.truncation == 0.7
    assert trained.task == TASKS["avatars_10"]
