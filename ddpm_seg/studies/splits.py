"""Splits of annotated images into training and test images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation, load_annotations
from ddpm_seg.fits import fit_of
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.studies.split_options import SplitOptions
from ddpm_seg.tasks import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Annotated images to train on, and others to test on."""

    name: str
    train: Sequence[Annotation]
    test: Sequence[Annotation]


def loader(options: SplitOptions, bundle: Bundle, task: Task) -> Callable[..., list[Annotation]]:
    """`load_annotations` for images as the network of `bundle` sees them."""
    size, fit = bundle.network.image_size, fit_of(bundle.provenance)
    return partial(load_annotations, image_size=size, task=task, options=options, mode=fit)


def load_splits(options: SplitOptions, bundle: Bundle, task: Task) -> list[Split]:
    """`find_splits` by a study's flags."""
    load = loader(options, bundle, task)
    return find_splits(options.train, options.test, count=options.splits, shots=options.shots, load=load)


def find_splits(
    train: Sequence[str],
    test: str | None,
    *,
    count: int | None,
    shots: int | None,
    load: Callable[[str], list[Annotation]],
) -> list[Split]:
    """One split per URI of `train`, named after its last part; or `count` random splits of `shots` images from one URI.

    Random splits are the same every time. Each is tested on `test`, or if that is None on its remaining images. Raises
    ValueError for arguments that cannot be combined, and what `load` raises.
    """
    if (count is None) != (shots is None):
        raise ValueError("--splits and --shots need each other: the number of random splits, and of images in each")
    if count is None or shots is None:
        names = [storage.normalize(uri).rpartition("/")[2] for uri in train]
        if len(set(names)) < len(names):
            raise ValueError(
                f"--train has two sets with the same name: {', '.join(names)}; rename one, as it names results"
            )
        if test is None:
            raise ValueError(
                "--test is missing: give annotated images to score on, or draw random --splits from one --train"
            )
        scored = load(test)
        return [Split(name=name, train=load(uri), test=scored) for name, uri in zip(names, train, strict=True)]
    if len(train) != 1:
        raise ValueError(f"--splits draws from a single --train, got {len(train)}")
    return draw_splits(load(train[0]), load(test) if test is not None else None, count=count, shots=shots)


def draw_splits(
    pool: Sequence[Annotation],
    test: Sequence[Annotation] | None = None,
    *,
    count: int,
    shots: int,
    kept_back: int | None = None,
) -> list[Split]:
    """`count` random splits of `shots` training images from `pool`, tested on `test` or on each split's other images.

    With `kept_back`, the test images are those that as many training images would leave: splits of fewer images are
    then scored on the same ones, and are the beginnings of the larger ones. The splits are the same every time. Raises
    ValueError if there are too few images.
    """
    largest = max(shots, kept_back or 0)
    most = len(pool) - (test is None)
    if count < 1 or not 1 <= shots <= largest <= most:
        raise ValueError(
            f"--splits {count} --shots {largest}: expected at least one split of 1 to {most} of the {len(pool)} "
            "annotated images"
        )
    return [_draw(pool, number, shots, largest, test) for number in range(1, count + 1)]


def _draw(
    pool: Sequence[Annotation], number: int, shots: int, largest: int, test: Sequence[Annotation] | None
) -> Split:
    order = np.random.default_rng(number).permutation(len(pool))
    chosen, left = sorted(order[:shots].tolist()), sorted(order[largest:].tolist())
    return Split(
        name=f"split-{number}",
        train=[pool[index] for index in chosen],
        test=[pool[index] for index in left] if test is None else test,
    )


def digest(annotations: Sequence[Annotation]) -> str:
    """A hash of all images and masks, 16 hex digits."""
    sha256 = hashlib.sha256()
    for annotation in annotations:
        sha256.update(annotation.image.tobytes())
        sha256.update(annotation.label.tobytes())
    return sha256.hexdigest()[:16]
