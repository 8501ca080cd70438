"""Images to train on, streamed from a file: the same as from memory; crops; and what is held out."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.data import image_set
from ddpm_seg.data.canvas import fit
from ddpm_seg.data.image_set import ImageFile, load_images
from ddpm_seg.model.bundle.ensemble_bundle import read_header
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.training.network import held_out
from ddpm_seg.training.network.denoising import Denoising
from ddpm_seg.training.network.network_training import NetworkTraining, train_network
from ddpm_seg.training.network.training_images import (
    TrainingImages,
    cropped,
    draw_images,
    larger_side,
    read_training_images,
)
from ddpm_seg.training.optimization import Optimization
from ddpm_seg.training.unfinished import OtherTrainingError
from jobs import pretrain

SIZE = 8
UNET = UNetConfig(image_size=SIZE, num_channels=32, num_res_blocks=1, channel_mult=(1,), attention_resolutions=())


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Twelve images of several shapes."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(12):
        image = rng.integers(0, 256, (16 + number, 24, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{number:02}.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    return str(tmp_path / "images")


@pytest.mark.parametrize("fitted", ["letterbox", "stretch"])
def test_images_from_the_file_are_those_in_memory(folder: str, fitted: str) -> None:
    streamed = read_training_images(folder, SIZE, fitted, crop=0, held_out=0)
    in_memory = load_images(folder, SIZE, fitted)
    assert len(streamed) == len(in_memory) == 12
    first = np.asarray(Image.open(Path(folder, "00.png")))
    np.testing.assert_array_equal(in_memory[0], fit(first, SIZE, fitted)[0])
    options = Optimization(batch_size=16, seed=5)
    for iteration in range(3):
        from_file, from_memory = (draw_images(images, options, iteration)[0] for images in (streamed, in_memory))
        np.testing.assert_array_equal(from_file, from_memory)


def test_of_many_images_no_more_are_read_than_asked_for(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    once = image_set.read_image
    monkeypatch.setattr(image_set, "read_image", lambda uri: [read.append(uri), once(uri)][1])
    monkeypatch.setattr(image_set, "AT_ONCE", 4)
    few = load_images(folder, SIZE, "letterbox", limit=3)
    assert len(read) == 4
    np.testing.assert_array_equal(few, load_images(folder, SIZE, "letterbox")[:3])


def test_a_file_gives_back_what_was_put_in_and_no_more() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    file = ImageFile(SIZE)
    for number, image in enumerate(images, start=1):
        file.append(image)
        np.testing.assert_array_equal(file[np.arange(number)], images[:number])
    np.testing.assert_array_equal(file[np.array([4, 0, 4])], images[[4, 0, 4]])
    with pytest.raises(IndexError, match="there is no image 5 of 5"):
        file[np.array([5])]
    with pytest.raises(ValueError, match="expected"):
        file.append(images[0, :4])


def test_crops_come_from_the_image_and_end_where_asked(folder: str) -> None:
    images = read_training_images(folder, SIZE, "stretch", crop=0.3, held_out=0)
    assert images.larger is not None
    assert images.larger[np.array([0])].shape == (1, larger_side(SIZE, 0.3), larger_side(SIZE, 0.3), 3)
    assert larger_side(SIZE, 0.3) == 12
    options = Optimization(batch_size=32, iterations=8)
    whole = {image.tobytes() for image in images.whole[np.arange(12)]}
    whole |= {np.frombuffer(image, np.uint8).reshape(SIZE, SIZE, 3)[:, ::-1].tobytes() for image in whole}
    for iteration in range(8):
        drawn = [image.tobytes() in whole for image in draw_images(images, options, iteration, 6)[0]]
        assert all(drawn) if iteration >= 6 else not any(drawn)


def test_a_crop_shows_a_part_of_at_least_the_network_s_size() -> None:
    ramp = np.arange(16, dtype=np.uint8) * 15
    images = np.repeat(np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(0)), axis=2)[None], 200, 0)
    found = cropped(images, SIZE, np.random.default_rng(0))
    spans = [(image[-1, 0, 0] - image[0, 0, 0], image[0, -1, 1] - image[0, 0, 1]) for image in found.astype(int)]
    for down, across in spans:
        assert abs(down - across) <= 15  # a square
        assert 15 * 6 <= down <= 15 * 15  # from eight rows, each seen as it is, to all sixteen
    assert len({image.tobytes() for image in found}) > 50
    corners = {(int(image[0, 0, 0]) // 15, int(image[0, 0, 1]) // 15) for image in found}
    assert {row for row, _ in corners} >= {0, 4, 8}
    assert {column for _, column in corners} >= {0, 4, 8}


def test_colours_change_anew_in_each_batch_and_end_where_asked(folder: str) -> None:
    plain, varied = (
        read_training_images(folder, SIZE, "stretch", crop=0.3, held_out=0, recolour=recolour)
        for recolour in (False, True)
    )
    options = Optimization(batch_size=32, iterations=8)
    for iteration in range(8):
        before, after = (draw_images(images, options, iteration, 6)[0] for images in (plain, varied))
        shift = np.abs(after.astype(int) - before).mean(axis=(1, 2, 3))
        assert (shift == 0).all() if iteration >= 6 else 3 < shift.mean() < 40  # as the brightness alone may change
    again = draw_images(varied, options, 0, 6)[0]
    np.testing.assert_array_equal(again, draw_images(varied, options, 0, 6)[0])
    ratios = again.astype(float).mean(axis=(1, 2, 3)) / draw_images(plain, options, 0, 6)[0].mean(axis=(1, 2, 3))
    assert len(np.unique(ratios.round(4))) > 16  # each image in its own way


def test_a_training_from_before_there_were_colours_goes_on(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)
    state = str(tmp_path / "state.pt")
    train_network(_training(2), TrainingImages(whole=noise, held_out=4), state, lambda _: None)
    content = torch.load(state)
    del content["configs"]["images"]["recolour"]
    torch.save(content, state)
    train_network(_training(2), TrainingImages(whole=noise, held_out=4), state, lambda _: None)


def test_held_out_images_are_never_drawn() -> None:
    images = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, SIZE, SIZE, 3), np.uint8)
    held = TrainingImages(whole=images, held_out=5)
    train, out = held.split(0)
    assert sorted([*train, *out]) == list(range(20))
    options = Optimization(batch_size=16)
    drawn = {int(image[0, 0, 0]) for iteration in range(40) for image in draw_images(held, options, iteration)[0]}
    assert drawn == set(train.tolist())


def _training(iterations: int) -> NetworkTraining:
    objective = Denoising(UNET, DiffusionConfig(steps=50))
    options = Optimization(iterations=iterations, batch_size=4, ema_decay=0, learning_rate=2e-3)
    return NetworkTraining(objective, options, Worker(), images={"held_out": 4})


def test_training_stops_where_held_out_images_get_no_better_and_keeps_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Resumed as well, and to the same weights."""
    monkeypatch.setattr(held_out, "EVERY", 2)
    monkeypatch.setattr(held_out, "PATIENCE", 3)
    noise = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)
    images, seen = TrainingImages(whole=noise, held_out=4), []
    losses = iter([5.0, 4.0, 6.0, 7.0, 4.5, 1.0])
    monkeypatch.setattr(held_out.HeldOut, "_mean_loss", lambda self, average: next(losses))

    def report(training: NetworkTraining) -> None:
        if training.iteration == 4:  # after the second look, the best
            seen.append({key: value.clone() for key, value in training.average.state_dict().items()})
        if training.iteration == 7 and len(seen) == 1:
            seen.append({})
            raise KeyboardInterrupt

    state = str(tmp_path / "state.pt")
    with pytest.raises(KeyboardInterrupt):
        train_network(_training(100), images, state, report)
    training = _training(100)
    with caplog.at_level(logging.INFO):
        train_network(training, images, state, report)
    assert training.iteration == 10  # the looks after 6, 8 and 10 batches were no better than the one after 4
    assert "stopped early" in caplog.text
    bundle = training.bundle({})
    assert bundle.provenance["held_out_loss"] == 4.0
    assert bundle.provenance["iterations"] == 10
    for key, value in seen[0].items():
        torch.testing.assert_close(bundle.weights[key], value.half())


def test_a_training_does_not_go_on_with_other_images_held_out(tmp_path: Path) -> None:
    """One image more or less, and others are held out: some that were trained on."""
    images = np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), dtype=np.uint8)
    state = str(tmp_path / "state.pt")
    train_network(_training(2), TrainingImages(whole=images[:8], held_out=4), state, lambda _: None)
    with pytest.raises(OtherTrainingError, match=r"state\.pt held out other images.*put them back"):
        train_network(_training(2), TrainingImages(whole=images, held_out=4), state, lambda _: None)
    content = torch.load(state)
    del content["held_out"]["digest"]  # as earlier releases saved it
    torch.save(content, state)
    train_network(_training(2), TrainingImages(whole=images[:8], held_out=4), state, lambda _: None)


def test_the_held_out_loss_is_that_of_the_weights_and_repeats() -> None:
    training = _training(60)
    images = np.full((8, SIZE, SIZE, 3), 40, np.uint8)
    images[::2, 2:6, 2:6] = 220
    watch = held_out.HeldOut(training.objective, images[:2], 0, "cpu")
    before = watch.look(training.average)
    assert watch.look(training.average) == before
    for _ in range(60):
        training.step(images)
    assert watch.look(training.average) < 0.8 * before
    assert watch.looks_since == 0
    assert watch.best < before


def test_the_job_takes_crops_and_held_out_images(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = ["--image-size", "8", "--channel-mult", "1", "--attention-resolutions", "4", "--batch-size", "4"]
    named = ["--images", folder, "--iterations", "3", *network]
    output = str(tmp_path / "bundle")
    assert pretrain.main([*named, "--output", output, "--crop", "0.3", "--recolour", "--held-out", "2"]) == 0
    provenance = read_header(output).provenance
    assert provenance["training_images"] == 10
    assert provenance["held_out_loss"] > 0
    for flags, message in (
        (["--held-out", "12"], "--held-out 12 leaves none of the 12 images to train on"),
        (["--crop", "0.9"], "crop is 0.9, expected a share from 0 to 0.5"),
        (["--crop", "nan"], "crop is nan, expected a share from 0 to 0.5"),
    ):
        try:
            status = pretrain.main([*named, "--output", str(tmp_path / "none"), *flags])
        except SystemExit as refused:
            status = refused.code
        said = capsys.readouterr().err
        assert status == 2
        assert message in said
