"""A model's own fit goes with it: from pretraining and training into label, evaluate and `ddpm_seg.load`."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddpm_seg
from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.data.canvas import fit as fitted
from ddpm_seg.fits import chosen_fit, fit_of, recorded_fit, with_fit
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, read_header, save_bundle
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.plan import hash_config, plan_label
from ddpm_seg.training.network.denoising import Denoising
from ddpm_seg.training.network.network_training import NetworkTraining
from ddpm_seg.training.optimization import Optimization
from jobs import pretrain, train
from tests.tiny_bundle import tiny_bundle


@pytest.mark.parametrize(
    ("provenance", "recorded"),
    [
        ({}, "letterbox"),
        ({"training_images": 6}, "letterbox"),
        ({"distillation": {}}, "letterbox"),
        ({"converted": {}}, None),
        ({"converted": {}, "ensemble": {}}, "letterbox"),
        ({"converted": {}, "ensemble": {}, "fit": "stretch"}, "stretch"),
    ],
)
def test_earlier_bundles_letterboxed_and_published_ones_fit_either_way(
    provenance: dict[str, object], recorded: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert recorded_fit(provenance) == recorded
    assert fit_of(provenance) == (recorded or "letterbox")
    for asked in ("letterbox", "stretch"):
        caplog.clear()
        assert chosen_fit("mine", provenance, asked) == asked
        assert ("expect worse masks" in caplog.text) == (recorded not in (None, asked))


def test_a_fit_that_does_not_exist_is_refused_with_the_bundle(tmp_path: Path) -> None:
    save_bundle(dataclasses.replace(tiny_bundle(), provenance={"fit": "squeeze"}), str(tmp_path / "other"))
    with pytest.raises(BundleError, match=r"other/bundle\.json: provenance: fit is 'squeeze', expected one of"):
        read_header(str(tmp_path / "other"))


def test_config_hash_of_an_earlier_bundle_stays_and_follows_the_fit_of_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 24)).save(tmp_path / "images" / "a.png")
    save_bundle(tiny_bundle(), str(tmp_path / "old"))
    stretched = with_fit({}, "stretch")
    save_bundle(dataclasses.replace(tiny_bundle(), provenance=stretched), str(tmp_path / "new"))
    old, new = read_header(str(tmp_path / "old")), read_header(str(tmp_path / "new"))
    assert old.model_id == new.model_id

    def planned(model: str, **options: object) -> str:
        config = LabelConfig(
            input=str(tmp_path / "images"), output=str(tmp_path / "out"), model=str(tmp_path / model), **options
        )
        plan = plan_label(config)
        assert (
            plan.run.config_hash
            == hash_config(plan.config, plan.header)
            == hash_config(dataclasses.replace(config, resize=plan.config.resize), plan.header)
        )
        assert f"fit        {plan.config.fit}" in str(plan)
        return plan.run.config_hash

    assert planned("old") == planned("old", fit="letterbox") == planned("new", fit="letterbox")
    assert planned("new") == planned("new", fit="stretch") == planned("old", fit="stretch") != planned("old")


def test_load_fits_as_the_model_s_images_were(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    for name, provenance in (("old", {}), ("new", with_fit({}, "stretch"))):
        save_bundle(dataclasses.replace(tiny_bundle(), provenance=provenance), str(tmp_path / name))
    old, new = (ddpm_seg.load(tmp_path / name, device="cpu") for name in ("old", "new"))
    assert not caplog.records
    assert np.array_equal(new(image)._canvas, fitted(image, 16, "stretch")[0])
    assert np.array_equal(old(image)._canvas, fitted(image, 16, "letterbox")[0])
    other = ddpm_seg.load(tmp_path / "old", device="cpu", fit="stretch")
    assert np.array_equal(other(image).mask, new(image).mask)
    assert "--fit stretch, but" in caplog.text


def test_pretrain_and_train_hand_their_fit_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng, images = np.random.default_rng(0), tmp_path / "images"
    images.mkdir()
    for index in range(4):
        image = rng.integers(0, 256, (16, 48, 3), dtype=np.uint8)
        Image.fromarray(image).save(images / f"{index}.png")
        np.save(images / f"{index}.npy", np.repeat(np.arange(2, dtype=np.uint8), (8, 8))[:, None].repeat(48, axis=1))
    (tmp_path / "task.json").write_text(json.dumps({"class_names": ["top", "bottom"]}))
    network = ["--image-size", "16", "--channel-mult", "1", "1", "--attention-resolutions", "8", "--batch-size", "2"]

    def pretrained(name: str, *more: str) -> int:
        folders = ["--images", str(images), "--output", str(tmp_path / name)]
        return pretrain.main([*folders, *network, "--iterations", "2", *more])

    def trained(model: str, name: str, *more: str) -> int:
        named = ["--model", str(tmp_path / model), "--task", str(tmp_path / "task.json"), "--images", str(images)]
        few = ["--members", "2", "--iterations", "3", "--steps", "10", "--blocks", "1", "--device", "cpu"]
        return train.main([*named, *few, "--output", str(tmp_path / name), *more])

    assert pretrained("stretched", "--fit", "stretch") == pretrained("padded") == 0
    assert [read_header(str(tmp_path / name)).provenance["fit"] for name in ("stretched", "padded")] == [
        "stretch",
        "letterbox",
    ]
    assert trained("stretched", "own") == trained("stretched", "same", "--fit", "stretch") == 0
    assert "expect worse masks" not in caplog.text
    assert trained("stretched", "other", "--fit", "letterbox") == 0
    assert "expect worse masks" in caplog.text
    own, same, other = (load_bundle(str(tmp_path / name)) for name in ("own", "same", "other"))
    assert own.provenance == same.provenance
    assert (own.provenance["fit"], other.provenance["fit"]) == ("stretch", "letterbox")
    # Letterboxed, a third of the square is image; stretched, all of it.
    labelled = [bundle.provenance["ensemble"]["labelled_pixels"] for bundle in (own, other)]
    assert labelled == [4 * 16 * 16, 4 * 16 * 5]


def test_an_unfinished_pretraining_goes_on_only_with_its_fit(tmp_path: Path) -> None:
    unet = UNetConfig(image_size=16, num_channels=32, num_res_blocks=1, channel_mult=(1,), attention_resolutions=())

    def training(**images: str) -> NetworkTraining:
        objective = Denoising(unet, DiffusionConfig(steps=50))
        return NetworkTraining(objective, Optimization(batch_size=2), Worker(), images=images)

    state = str(tmp_path / "state.pt")
    stretched = training(fit="stretch")
    stretched.save(state)
    with pytest.raises(ValueError, match=r"images\.fit = stretch, not letterbox"):
        training().resume(state)
    training(fit="stretch").resume(state)
    del stretched.configs["images"]  # as earlier releases saved it
    stretched.save(state)
    training().resume(state)
    with pytest.raises(ValueError, match=r"images\.fit = letterbox, not stretch"):
        training(fit="stretch").resume(state)


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
