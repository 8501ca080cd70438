from __future__ import annotations

import math

import numpy as np
import pytest

from ddpm_seg.data.canvas import Placement, fit, restore_mask
from ddpm_seg.data.statistics import LEFT_OUT, ClassStatistics, image_statistics, most_uncertain_tenth

NAMES = tuple(f"class {i}" for i in range(6))


def random_case(rng: np.random.Generator, size: int, width: int, height: int, mode: str) -> dict:
    """A blotchy label, so that classes have several parts of several pixels, and its mask at width x height."""
    blotches = rng.integers(0, len(NAMES), (size, size))
    label = np.where(rng.random((size, size)) < 0.5, np.roll(blotches, 1, axis=rng.integers(2)), blotches)
    placement = fit(np.zeros((height, width, 3), np.uint8), size, mode)[1]
    return {
        "label": label.astype(np.uint8),
        "uncertainty": rng.random((size, size), dtype=np.float32),
        "confidence": rng.random((size, size), dtype=np.float32),
        "mask": restore_mask(label.astype(np.uint8), placement),
        "placement": placement,
        "class_names": NAMES,
    }


def count_components(pixels: set[tuple[int, int]]) -> int:
    """4-connected parts of a set of (y, x), by flood fill."""
    pixels, count = set(pixels), 0
    while pixels:
        count += 1
        edge = [pixels.pop()]
        while edge:
            y, x = edge.pop()
            for neighbour in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if neighbour in pixels:
                    pixels.remove(neighbour)
                    edge.append(neighbour)
    return count


def oracle(label, uncertainty, confidence, mask, placement, class_names) -> list[ClassStatistics]:
    """Every number by its definition, pixel by pixel."""
    inside = [
        (y, x)
        for y in range(placement.top, placement.top + placement.height)
        for x in range(placement.left, placement.left + placement.width)
    ]
    classes = []
    for class_id, class_name in enumerate(class_names):
        own = [(y, x) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if mask[y, x] == class_id]
        if not own:
            continue
        at_network = [(y, x) for y, x in inside if label[y, x] == class_id]
        top, left = (min(values) for values in zip(*own, strict=True))
        bottom, right = (max(values) for values in zip(*own, strict=True))
        classes.append(
            ClassStatistics(
                class_id=class_id,
                class_name=class_name,
                pixels=len(own),
                fraction=len(own) / mask.size,
                mean_confidence=math.fsum(confidence[p] for p in at_network) / len(at_network),
                mean_uncertainty=math.fsum(uncertainty[p] for p in at_network) / len(at_network),
                components=count_components(set(own)),
                bbox=(left, top, right - left + 1, bottom - top + 1),
            )
        )
    return classes


def assert_same(classes: list[ClassStatistics], expected: list[ClassStatistics]) -> None:
    assert [c.class_id for c in classes] == [c.class_id for c in expected]
    for ours, theirs in zip(classes, expected, strict=True):
        assert (ours.class_name, ours.pixels, ours.components) == (theirs.class_name, theirs.pixels, theirs.components)
        assert ours.bbox == theirs.bbox
        assert all(type(value) is float for value in ours.bbox)
        assert ours.fraction == pytest.approx(theirs.fraction, rel=1e-12)
        assert ours.mean_confidence == pytest.approx(theirs.mean_confidence, rel=1e-9)
        assert ours.mean_uncertainty == pytest.approx(theirs.mean_uncertainty, rel=1e-9)


SIZES = [
    (12, 12),  # the network's own size
    (31, 31),  # enlarged, not by a whole number
    (40, 17),  # enlarged, with padding
    (17, 40),
    (12, 5),  # own size, with padding
    (5, 5),  # shrunk: classes may vanish, parts may merge
    (9, 4),
    (30, 5),  # stretch: enlarged across, shrunk down
    (1, 1),
    (1, 30),
    (30, 1),
]


@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_statistics_equal_their_definitions(width, height, mode):
    rng = np.random.default_rng([width, height])
    for _ in range(4):
        case = random_case(rng, 12, width, height, mode)
        assert_same(image_statistics(**case).classes, oracle(**case))


@pytest.mark.parametrize(("width", "height"), [(12, 12), (31, 24), (5, 5)])
def test_left_out_pixels_are_of_no_class(width, height):
    rng = np.random.default_rng(3)
    case = random_case(rng, 12, width, height, "letterbox")
    case["mask"][rng.random((height, width)) < 0.3] = LEFT_OUT
    statistics = image_statistics(**case)
    assert_same(statistics.classes, oracle(**case))
    assert sum(c.pixels for c in statistics.classes) == (case["mask"] != LEFT_OUT).sum()
    assert sum(c.fraction for c in statistics.classes) < 1


def test_all_pixels_left_out_means_no_class():
    case = random_case(np.random.default_rng(0), 12, 20, 20, "letterbox")
    case["mask"][:] = LEFT_OUT
    assert image_statistics(**case).classes == []


@pytest.mark.parametrize(("width", "height"), [(24, 24), (29, 37), (500, 30), (12, 12)])
def test_enlarging_keeps_components_and_means(width, height):
    """4-connected parts are the same at network resolution and in any enlargement, so they are counted where cheap."""
    rng = np.random.default_rng(4)
    small = random_case(rng, 12, 12, 12, "stretch")
    placement = fit(np.zeros((height, width, 3), np.uint8), 12, "stretch")[1]
    large = small | {"mask": restore_mask(small["label"], placement), "placement": placement}
    at_network, at_own_size = image_statistics(**small), image_statistics(**large)
    for a, b in zip(at_network.classes, at_own_size.classes, strict=True):
        assert (a.class_id, a.components) == (b.class_id, b.components)
        assert (a.mean_confidence, a.mean_uncertainty) == (b.mean_confidence, b.mean_uncertainty)
        # And as counted on the enlarged mask itself.
        own = {(y, x) for y, x in zip(*np.nonzero(large["mask"] == a.class_id), strict=True)}
        assert b.components == count_components(own)


def test_diagonal_neighbours_are_two_parts():
    label = np.eye(2, dtype=np.uint8)
    square = Placement(left=0, top=0, width=2, height=2, image_width=2, image_height=2)
    ones = np.ones((2, 2), np.float32)
    statistics = image_statistics(label, ones, ones, label, square, NAMES)
    assert [c.components for c in statistics.classes] == [2, 2]


def test_padding_never_counts():
    rng = np.random.default_rng(5)
    case = random_case(rng, 24, 50, 20, "letterbox")
    expected = image_statistics(**case)
    box = case["placement"]
    outside = np.ones((24, 24), bool)
    box.crop(outside)[:] = False
    changed = dict(case)
    for name, value in (("label", 5), ("uncertainty", 1e6), ("confidence", np.nan)):
        changed[name] = np.where(outside, value, case[name]).astype(case[name].dtype)
    assert image_statistics(**changed) == expected


def test_image_means():
    case = random_case(np.random.default_rng(6), 24, 50, 20, "letterbox")
    statistics = image_statistics(**case)
    content = case["placement"].crop(case["uncertainty"]).ravel()
    assert statistics.uncertainty == most_uncertain_tenth(content)
    mean = case["placement"].crop(case["confidence"]).mean(dtype=np.float64)
    assert statistics.mean_confidence == pytest.approx(mean, rel=1e-12)


def test_fractions_of_a_large_mask_add_up_to_one():
    case = random_case(np.random.default_rng(7), 64, 2400, 1600, "letterbox")
    statistics = image_statistics(**case)
    assert sum(c.pixels for c in statistics.classes) == 2400 * 1600
    assert sum(c.fraction for c in statistics.classes) == pytest.approx(1, rel=1e-12)
    np.testing.assert_array_equal(
        [c.pixels for c in statistics.classes], np.unique(case["mask"], return_counts=True)[1]
    )


@pytest.mark.parametrize("P", [1, 5, 9, 10, 11, 19, 20, 99, 1000])
def test_most_uncertain_tenth_follows_the_reference(P):
    js = np.random.default_rng(P).random(P, dtype=np.float32)
    # The reference sorts and slices [-int(P / 10):], which for P < 10 is [-0:], everything.
    expected = np.sort(js)[-int(P / 10) :].mean(dtype=np.float64)
    assert most_uncertain_tenth(js) == pytest.approx(expected, rel=1e-12)
    assert most_uncertain_tenth(js[::-1]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("js", [np.zeros(0), np.zeros((3, 3))])
def test_most_uncertain_tenth_wants_a_vector(js):
    with pytest.raises(ValueError, match="vector"):
        most_uncertain_tenth(js)


def broken(**changes: object) -> dict:
    case = random_case(np.random.default_rng(8), 12, 12, 12, "letterbox")
    return case | {name: change(case[name]) for name, change in changes.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": lambda names: names[:-1]}, "class 5 has no name: there are 5 classes"),
        ({"mask": lambda mask: np.where(mask == 1, 254, mask).astype(np.uint8)}, "class 254 has no name"),
        ({"label": lambda label: np.where(label == 1, 0, label).astype(np.uint8)}, "the mask has class 1"),
        ({"mask": lambda mask: mask[1:]}, "mask has shape"),
        ({"mask": lambda mask: mask.astype(np.int64)}, "must be uint8"),
        ({"confidence": lambda confidence: confidence[1:]}, "must have one shape"),
    ],
)
def test_what_does_not_agree_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        image_statistics(**broken(**changes))
