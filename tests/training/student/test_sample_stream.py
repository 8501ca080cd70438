from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddpm_seg.evaluation.tables.curation import CurateConfig, curate
from ddpm_seg.training.student import sample_stream
from ddpm_seg.training.student.annotated_set import AnnotatedSet
from ddpm_seg.training.student.sample_stream import POOL, SampleStream
from tests.boxed_samples import SIZE, publish_boxes


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Sixty-four in two shards of four row groups each."""
    for shard in range(2):
        publish_boxes(tmp_path / "out", 32, first=32 * shard, shard=shard)
    return tmp_path / "out"


def numbers(stream: SampleStream, epoch: int, *, seed: int = 0, share: int = 8, rank: int = 0, world_size: int = 1):
    """What comes, by the number that each picture holds."""
    found = []
    for images, masks in stream.batches(seed, epoch, share, rank, world_size):
        assert images.shape == (share, SIZE, SIZE, 3)
        assert masks.shape == (share, SIZE, SIZE)
        assert images.dtype == masks.dtype == np.uint8
        found += images[:, 0, 0, 0].tolist()
    return found


def test_every_sample_comes_once_an_epoch_in_an_order_of_its_own(samples: Path) -> None:
    stream = SampleStream(str(samples))
    assert (stream.num_samples, stream.size, stream.task.name) == (64, SIZE, "avatars_10")
    first, second = numbers(stream, 0), numbers(stream, 1)
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second
    assert numbers(SampleStream(str(samples)), 0) == first
    assert numbers(stream, 0, seed=1) != first
    assert all(np.ptp(first[start : start + 8]) > 8 for start in range(0, 64, 8))  # row groups are mixed


def test_an_image_keeps_its_mask(samples: Path) -> None:
    for images, masks in SampleStream(str(samples)).batches(0, 0, 8, 0, 1):
        assert np.array_equal(images[:, 1:, :, 0] > 128, masks[:, 1:] == 1)


def test_workers_share_the_samples(samples: Path) -> None:
    stream = SampleStream(str(samples))
    shares = [numbers(stream, 0, share=4, rank=rank, world_size=2) for rank in range(2)]
    assert len(shares[0]) == len(shares[1]) == 32
    assert sorted(shares[0] + shares[1]) == list(range(64))


def test_what_does_not_fill_a_batch_waits_for_another_epoch(samples: Path) -> None:
    stream = SampleStream(str(samples))
    epochs = [numbers(stream, epoch, share=24) for epoch in range(6)]
    assert {len(epoch) for epoch in epochs} == {48}
    assert set().union(*epochs) == set(range(64))


def test_curation_is_followed(samples: Path) -> None:
    curate(CurateConfig(samples=str(samples), drop_uncertain=0.5, ignore_above=0.5))
    stream = SampleStream(str(samples))
    assert sorted(numbers(stream, 0)) == list(range(32))
    for _, masks in stream.batches(0, 0, 8, 0, 1):
        assert (masks[:, 0] == 255).all()
        assert (masks[:, 1:] < 2).all()


def test_the_first_batch_does_not_wait_for_the_whole_set(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, opened = SampleStream(str(samples)), []
    real = sample_stream.open_parquet
    monkeypatch.setattr(sample_stream, "open_parquet", lambda uri: opened.append(uri) or real(uri))
    next(stream.batches(0, 0, 4, 0, 1))
    assert 0 < len(opened) <= POOL < len(stream.pieces)


def test_too_few_samples_are_refused(samples: Path) -> None:
    stream = SampleStream(str(samples))
    with pytest.raises(ValueError, match="9 workers, but the samples are in 8 row groups"):
        stream.num_batches(0, 0, 1, 9)
    with pytest.raises(ValueError, match="64 samples are fewer than a batch"):
        stream.num_batches(0, 0, 65, 1)
    with pytest.raises(FileNotFoundError, match="no samples table"):
        SampleStream(str(samples / "nothing"))


@pytest.mark.parametrize("world_size", [1, 2])
def test_annotated_images_come_as_often_as_asked(world_size: int) -> None:
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    data = AnnotatedSet(images, images[..., 0], repeat=4)
    share = 4 // world_size
    assert data.num_batches(0, 0, share, world_size) == 6
    found: list[int] = []
    for rank in range(world_size):
        for batch, labels in data.batches(0, 0, share, rank, world_size):
            assert np.array_equal(batch[..., 0], labels)
            found += batch[:, 0, 0, 0].tolist()
    assert sorted(found) == sorted([*range(6)] * 4)


def test_fewer_samples_are_among_more_of_them(samples: Path) -> None:
    few, more = (SampleStream(str(samples), num_samples=number) for number in (8, 24))
    assert (few.num_samples, more.num_samples) == (8, 24)
    assert len(set(numbers(few, 0))) == 8
    assert set(numbers(few, 0)) < set(numbers(more, 0))
    assert set(numbers(few, 0)) == set(numbers(few, 1))
    assert sorted(numbers(more, 0)) != list(range(24))  # a random choice, not the first ones
