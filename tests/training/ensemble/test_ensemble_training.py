from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_seg.model.ensemble import member_shapes
from ddpm_seg.training.ensemble import ensemble_training
from ddpm_seg.training.ensemble.ensemble_training import (
    PUBLISHED,
    EnsembleConfig,
    TrainedMember,
    train_members,
)
from ddpm_seg.training.ensemble.members import (
    MemberStack,
    epoch_order,
    initial_member,
    member_generator,
    on_raw_features,
)
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures
from ddpm_seg.training.ensemble.stopping import EarlyStopping, StoppingRule

CPU = torch.device("cpu")


def published_classifier(state: dict[str, Tensor], hidden: tuple[int, int]) -> nn.Sequential:
    features, classes = state["layers.0.weight"].shape[1], len(state["layers.6.bias"])
    layers = nn.Sequential(
        nn.Linear(features, hidden[0]),
        nn.ReLU(),
        nn.BatchNorm1d(hidden[0]),
        nn.Linear(hidden[0], hidden[1]),
        nn.ReLU(),
        nn.BatchNorm1d(hidden[1]),
        nn.Linear(hidden[1], classes),
    )
    layers.to(state["layers.0.weight"].dtype).load_state_dict(
        {key.removeprefix("layers."): value for key, value in state.items()}
    )
    return layers


def published_training(layers: nn.Sequential, batches: list[tuple[Tensor, Tensor]]) -> list[float]:
    optimizer = torch.optim.Adam(layers.parameters(), lr=1e-3)
    layers.train()
    losses = []
    for x_BD, y_B in batches:
        loss = nn.CrossEntropyLoss()(layers(x_BD), y_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def assert_same_state(member: dict[str, Tensor], layers: nn.Sequential) -> None:
    for key, value in layers.state_dict().items():
        torch.testing.assert_close(member[f"layers.{key}"], value, rtol=1e-6, atol=1e-8)


def double_start(features: int, classes: int, number: int) -> dict[str, Tensor]:
    """In float64: Adam's first steps are a gradient's sign, so that float32's rounding of a gradient near 0 shows."""
    start = initial_member(features, classes, member_generator(0, number))
    return {key: value.double() if value.is_floating_point() else value for key, value in start.items()}


def random_batches(count: int, members: int, pixels: int, features: int, classes: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(members, pixels, features, generator=generator, dtype=torch.float64),
            torch.randint(classes, (members, pixels), generator=generator),
        )
        for _ in range(count)
    ]


def separable_pixels(
    *, images: int = 2, size: int = 16, classes: int = 3, noise: float = 0.3
) -> tuple[PixelFeatures, Tensor]:
    """Features whose class is the nearest of `classes` random directions, and the label of every pixel (P,)."""
    generator = torch.Generator().manual_seed(7)
    labels = torch.randint(classes, (images, size, size), generator=generator)
    directions = torch.randn(classes, 12, generator=generator)
    maps = directions[labels].permute(0, 3, 1, 2) + noise * torch.randn(images, 12, size, size, generator=generator)
    features = PixelFeatures(num_images=images, image_size=size, mode="bilinear", dtype=torch.float32)
    with torch.inference_mode():  # as where a network makes them
        features.store(0, [maps[:, :8], maps[:, 8:]])
    return features, labels.flatten()


@pytest.mark.parametrize(("classes", "hidden"), [(4, (128, 32)), (31, (256, 128))])
def test_stack_trains_each_member_as_the_published_loop_does_alone(classes: int, hidden: tuple[int, int]) -> None:
    starts = [double_start(20, classes, number) for number in range(3)]
    stack = MemberStack(starts, device=CPU)
    batches = random_batches(12, 3, 16, 20, classes)
    losses = torch.stack([stack.step(x, y, 1e-3) for x, y in batches])
    for number, start in enumerate(starts):
        alone = published_classifier(start, hidden)
        expected = published_training(alone, [(x[number], y[number]) for x, y in batches])
        assert losses[:, number].tolist() == pytest.approx(expected, rel=1e-6)
        assert_same_state(stack.member(number), alone)


def test_stack_goes_on_unchanged_without_a_stopped_member() -> None:
    starts = [double_start(9, 3, number) for number in range(3)]
    stack = MemberStack(starts, device=CPU)
    batches = random_batches(10, 3, 8, 9, 3)
    for x, y in batches[:5]:
        stack.step(x, y, 1e-3)
    stopped = stack.member(1)
    kept = torch.tensor([True, False, True])
    stack.keep(kept)
    for x, y in batches[5:]:
        stack.step(x[kept], y[kept], 1e-3)
    for place, number in enumerate([0, 2]):
        alone = published_classifier(starts[number], (128, 32))
        published_training(alone, [(x[number], y[number]) for x, y in batches])
        assert_same_state(stack.member(place), alone)
    assert stopped["layers.2.num_batches_tracked"] == 5
    frozen = published_classifier(starts[1], (128, 32))
    published_training(frozen, [(x[1], y[1]) for x, y in batches[:5]])
    assert_same_state(stopped, frozen)


def test_training_equals_the_published_loop_over_shuffled_epochs() -> None:
    features, labels = separable_pixels(images=1, size=10)
    pixels = torch.arange(100)[labels != 1]  # a part of the pixels, as where some are not labelled
    config = replace(PUBLISHED, members=2, batch_size=16, seed=5, early_stopping=EarlyStopping(max_epochs=3))
    trained = train_members(features, pixels, labels[pixels], 3, config)
    x_PD = features.gather(pixels)
    for number, member in enumerate(trained):
        generator = member_generator(5, number)
        alone = published_classifier(initial_member(12, 3, generator), (128, 32))
        orders = [epoch_order(len(pixels), generator) for _ in range(3)]
        chosen = [part for order in orders for part in order.split(16) if len(part) == 16]
        losses = published_training(alone, [(x_PD[part], labels[pixels][part]) for part in chosen])
        assert member.iterations == len(chosen)
        # Far below the difference between two batches' losses, above what float32 rounding grows to in 15 steps.
        assert member.loss == pytest.approx(losses[-1], abs=5e-3)
        running_mean = alone.state_dict()["2.running_mean"]
        torch.testing.assert_close(member.weights["layers.2.running_mean"], running_mean, rtol=0.05, atol=5e-3)


def test_members_beat_chance_and_have_the_published_keys_and_shapes() -> None:
    features, labels = separable_pixels()
    raw = features.gather(torch.arange(len(labels)))
    config = EnsembleConfig(members=3, iterations=100)
    trained = train_members(features, torch.arange(len(labels)), labels, 3, config)
    for member in trained:
        assert {key: tuple(value.shape) for key, value in member.weights.items()} == member_shapes(3, 12)
        layers = published_classifier(dict(member.weights), (128, 32)).eval()
        accuracy = (layers(raw).argmax(1) == labels).float().mean()
        assert accuracy > 0.9
    assert not torch.equal(trained[0].weights["layers.0.weight"], trained[1].weights["layers.0.weight"])


def test_a_seed_repeats_and_a_member_does_not_depend_on_its_neighbours() -> None:
    def train(members: int, seed: int) -> list[dict[str, Tensor]]:
        features, labels = separable_pixels()
        pixels = torch.arange(len(labels))
        config = EnsembleConfig(members=members, seed=seed, iterations=20)
        return [dict(member.weights) for member in train_members(features, pixels, labels, 3, config)]

    once, again, other, alone = train(3, 1), train(3, 1), train(3, 2), train(1, 1)
    for key, value in once[0].items():
        assert torch.equal(value, again[0][key])
        torch.testing.assert_close(value, alone[0][key], rtol=1e-3, atol=1e-3)
    assert not torch.equal(once[0]["layers.0.weight"], other[0]["layers.0.weight"])


@pytest.mark.parametrize("broken_off", [5, 8, 13, 21])
@pytest.mark.parametrize("recipe", [EnsembleConfig(iterations=30), PUBLISHED])
def test_an_interrupted_training_goes_on_to_the_same_members(
    recipe: EnsembleConfig, broken_off: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = recipe.early_stopping and EarlyStopping(warmup_epochs=1, patience=2, max_epochs=6)
    config = replace(recipe, members=3, batch_size=64, early_stopping=rule)

    def train(state_uri: str | None) -> list[TrainedMember]:
        features, labels = separable_pixels(noise=2.0)  # 8 batches an epoch
        return train_members(features, torch.arange(len(labels)), labels, 3, config, state_uri=state_uri)

    whole, state = train(None), str(tmp_path / "state.pt")
    step, taken = MemberStack.step, 0

    def breaks_off(self: MemberStack, *batch: Any) -> Tensor:
        nonlocal taken
        taken += 1
        if taken > broken_off:
            raise KeyboardInterrupt
        return step(self, *batch)

    monkeypatch.setattr(ensemble_training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(MemberStack, "step", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        train(state)
    taken = broken_off - 1000
    resumed = train(state)
    assert taken - (broken_off - 1000) == max(member.iterations for member in whole) - broken_off
    for before, after in zip(whole, resumed, strict=True):
        assert (before.iterations, before.loss) == (after.iterations, after.loss)
        assert all(torch.equal(value, after.weights[key]) for key, value in before.weights.items())
    if rule:
        assert len({member.iterations for member in whole}) > 1  # some stopped before others


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    config = EnsembleConfig(iterations=400)
    rates = [config.learning_rate_factor(iteration) for iteration in range(1, 401)]
    peak = rates.index(max(rates))
    assert peak + 1 == 50
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert 0 < rates[-1] < 1e-4
    assert {PUBLISHED.learning_rate_factor(iteration) for iteration in (1, 50, 5000)} == {1.0}


def test_weight_decay_is_adamws() -> None:
    start = double_start(9, 3, 0)
    stack, alone = MemberStack([start], weight_decay=0.5, device=CPU), published_classifier(start, (128, 32))
    optimizer = torch.optim.AdamW(alone.parameters(), lr=1e-2, weight_decay=0.5)
    for x, y in random_batches(5, 1, 8, 9, 3):
        stack.step(x, y, 1e-2)
        loss = F.cross_entropy(alone(x[0]), y[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert_same_state(stack.member(0), alone)


def test_a_member_trained_on_standardised_features_reads_them_as_they_are() -> None:
    features, _ = separable_pixels()
    features.maps[0] = 40 + 7 * features.maps[0]
    pixels = torch.arange(100)
    raw = features.gather(pixels)
    mean, deviation = features.standardize()
    standardised = features.gather(pixels)
    torch.testing.assert_close(standardised, (raw - mean) / deviation, rtol=1e-4, atol=1e-4)
    for stored in features.maps:
        torch.testing.assert_close(stored.mean(dim=(0, 1, 2)), torch.zeros(stored.shape[-1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(stored.std(dim=(0, 1, 2)), torch.ones(stored.shape[-1]), atol=2e-3, rtol=0)
    member = initial_member(12, 3, member_generator(0, 0))
    on_standardised = published_classifier(dict(member), (128, 32)).eval()
    on_raw = published_classifier(dict(on_raw_features(member, mean, deviation)), (128, 32)).eval()
    torch.testing.assert_close(on_raw(raw), on_standardised(standardised), rtol=1e-4, atol=1e-4)


def test_a_channel_that_is_everywhere_the_same_stays_finite() -> None:
    features = PixelFeatures(num_images=1, image_size=8, mode="bilinear")
    features.store(0, [torch.full((1, 2, 4, 4), 3.0)])
    features.standardize()
    assert features.maps[0].abs().max() < 0.5


def test_stopping_rule_counts_batches_without_a_new_lowest_loss() -> None:
    losses = torch.tensor([[3.0, 3.0], [2.0, 4.0], [2.0, 4.0], [2.5, 2.9], [9.0, 3.0]])
    rule = StoppingRule(2, patience=2)
    assert [rule.update(1 + batch, row).tolist() for batch, row in enumerate(losses)] == [
        [False, False],
        [False, False],
        [False, False],
        [False, False],
        [True, False],  # the third batch in a row; an equal loss is no improvement
    ]


def test_members_stop_alone_after_the_warm_up() -> None:
    features, labels = separable_pixels(noise=2.0)
    stopping = EarlyStopping(warmup_epochs=2, patience=3, max_epochs=50)
    config = replace(PUBLISHED, members=4, early_stopping=stopping)
    batches = len(labels) // config.batch_size
    trained = train_members(features, torch.arange(len(labels)), labels, 3, config)
    iterations = [member.iterations for member in trained]
    # The first batch that counts is always a lowest loss; the next four at least have to fail.
    assert min(iterations) >= 2 * batches + 1 + 4
    assert max(iterations) < 50 * batches
    assert len(set(iterations)) > 1
    for member in trained:
        assert member.weights["layers.2.num_batches_tracked"] == member.iterations


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"members": 0}, {"batch_size": 1}, {"iterations": 0}, {"iterations": None}, {"seed": -1}):
        name = next(iter(wrong))
        with pytest.raises(ValueError, match=rf"{name.replace('_', '.')} (is|must be at least \d, got) {wrong[name]}"):
            EnsembleConfig(**wrong)
    features, labels = separable_pixels(images=1, size=4)
    with pytest.raises(ValueError, match="16 labelled pixels do not fill a batch of 256"):
        train_members(features, torch.arange(16), labels, 3, EnsembleConfig())


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [16, 24])
def test_gathered_features_equal_interpolated_ones(mode: str, size: int) -> None:
    generator = torch.Generator().manual_seed(3)
    shapes = [(5, 1, 1), (3, 4, 4), (7, 8, 8), (2, 16, 16), (3, 4, 4), (4, 6, 8)]
    maps = [torch.randn(3, *shape, generator=generator) for shape in shapes]
    features = PixelFeatures(num_images=3, image_size=size, mode=mode, dtype=torch.float32)  # type: ignore[arg-type]
    features.store(0, [new[:2] for new in maps])
    features.store(2, [new[2:] for new in maps])
    expected = torch.cat([F.interpolate(new, (size, size), mode=mode) for new in maps], dim=1)
    gathered = features.gather(torch.arange(3 * size * size))
    assert features.num_features == 24
    torch.testing.assert_close(gathered, expected.permute(0, 2, 3, 1).reshape(-1, 24), rtol=1e-5, atol=1e-5)


def test_half_precision_is_close_and_gives_way_to_large_activations() -> None:
    maps = [torch.randn(1, 4, 4, 4), 1e5 * torch.randn(1, 4, 4, 4)]
    half = PixelFeatures(num_images=1, image_size=8, mode="bilinear")
    with torch.inference_mode():
        half.store(0, maps)
    full = PixelFeatures(num_images=1, image_size=8, mode="bilinear", dtype=torch.float32)
    full.store(0, maps)
    pixels = torch.arange(64)
    assert half.maps[0].dtype == torch.float16
    assert half.maps[1].dtype == torch.float32
    torch.testing.assert_close(half.gather(pixels), full.gather(pixels), rtol=2e-3, atol=2e-3)
    half.standardize()
    full.standardize()
    torch.testing.assert_close(half.gather(pixels), full.gather(pixels), rtol=2e-3, atol=2e-3)
