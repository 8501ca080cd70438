"""A bundle's training images, kept beside its hashed files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_seg.model.bundle.domain import DOMAIN, encode_domain
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle, read_header, save_bundle
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.segmenter import Segmenter
from tests.tiny_bundle import tiny_bundle


def dimensions(bundle: Bundle) -> int:
    assert bundle.features is not None
    return sum(bundle.features.channels(bundle.network))


@pytest.fixture
def bundle() -> Bundle:
    plain = tiny_bundle()
    return dataclasses.replace(plain, domain=torch.randn(6, dimensions(plain)))


def test_it_is_kept_and_is_no_part_of_the_model_id(bundle: Bundle, tmp_path: Path) -> None:
    header = save_bundle(bundle, str(tmp_path / "with"))
    assert header.model_id == save_bundle(tiny_bundle(), str(tmp_path / "without")).model_id
    assert header.has_domain
    assert read_header(str(tmp_path / "with")).has_domain
    assert not read_header(str(tmp_path / "without")).has_domain
    assert bundle.domain is not None
    torch.testing.assert_close(load_bundle(str(tmp_path / "with")).domain, bundle.domain)
    assert load_bundle(str(tmp_path / "without")).domain is None


def test_labels_are_the_same_with_it(bundle: Bundle) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, *[bundle.network.image_size] * 2, 3), dtype=np.uint8)
    with_it, without = Segmenter(bundle).segment(images), Segmenter(tiny_bundle()).segment(images)
    for one, other in zip(with_it, without, strict=True):
        np.testing.assert_array_equal(one.label, other.label)
        np.testing.assert_array_equal(one.uncertainty, other.uncertainty)
        assert one.domain_distance is not None
        assert one.domain_distance > 0
        assert other.domain_distance is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no tensors", "is damaged"),
        (encode_domain(torch.zeros(6, 7)), "expected float32"),
        (encode_domain(torch.zeros(0, 7)), "expected float32"),
        (b"\0" * 50_000_000, "is damaged"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(bundle: Bundle, tmp_path: Path, content: bytes, said: str) -> None:
    save_bundle(bundle, str(tmp_path / "b"))
    (tmp_path / "b" / DOMAIN).write_bytes(content)
    with pytest.raises(BundleError, match=said) as caught:
        load_bundle(str(tmp_path / "b"))
    assert DOMAIN in str(caught.value)
    assert "delete it" in str(caught.value)


def test_values_that_are_not_finite_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, str(tmp_path / "b"))
    (tmp_path / "b" / DOMAIN).write_bytes(encode_domain(torch.full((6, dimensions(bundle)), torch.nan)))
    with pytest.raises(BundleError, match="not finite"):
        load_bundle(str(tmp_path / "b"))
