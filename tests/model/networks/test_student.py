"""The student: torchvision's network, its bundle, and what is said of an image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as transforms
from torchvision.models import mobilenet_v3_large, resnet50
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, read_header, save_bundle
from ddpm_seg.model.bundle.student_bundle import StudentBundle, load_student, save_student
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.networks.pixel_values import DEVIATION, MEAN, to_imagenet
from ddpm_seg.model.networks.student import Student, StudentConfig, backbone_weights
from ddpm_seg.model.student_segmenter import StudentSegmenter
from ddpm_seg.model.trained import load_model, read_trained_header, resident
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.plan import plan_label
from tests.model.tiny_networks import images
from tests.tiny_bundle import TASK, tiny_bundle

CONFIG = StudentConfig(backbone="mobilenet_v3_large", num_classes=TASK.num_classes, image_size=16, resolution=32)


@pytest.fixture(scope="module")
def bundle() -> StudentBundle:
    torch.manual_seed(0)
    return StudentBundle(student=CONFIG, weights=Student(CONFIG).state_dict(), task=TASK)


def test_at_the_images_own_size_it_is_torchvisions_network() -> None:
    config = StudentConfig(backbone="mobilenet_v3_large", num_classes=5, image_size=32, resolution=32)
    student = Student(config).eval()
    theirs = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5).eval()
    theirs.load_state_dict(student.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(student(x), theirs(x)["out"])


def test_running_statistics_follow_in_tens_of_batches() -> None:
    config = StudentConfig(backbone="mobilenet_v3_large", num_classes=2, image_size=32, resolution=32)
    student = Student(config)
    x = 5 + 3 * torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        for _ in range(50):
            trained = student.train().backbone["0"](x)
        torch.testing.assert_close(student.eval().backbone["0"](x), trained, atol=0.05, rtol=0.05)


def test_images_are_prepared_as_by_torchvisions_normalize() -> None:
    pixels = images(2, 16)
    expected = transforms.normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255, list(MEAN), list(DEVIATION))
    torch.testing.assert_close(to_imagenet(pixels, "cpu"), expected)


def test_a_backbone_of_imagenet_goes_into_its_place() -> None:
    student, classifier = Student(CONFIG).eval(), mobilenet_v3_large(weights=None).eval()
    student.backbone.load_state_dict(backbone_weights(classifier.state_dict(), student.config))
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        # The last stages are dilated in DeepLab, and have the same weights.
        torch.testing.assert_close(student.backbone["0"](x), classifier.features[0](x))
    with pytest.raises(ValueError, match="expected the weights of torchvision's mobilenet_v3_large"):
        backbone_weights(resnet50(weights=None).state_dict(), student.config)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"resolution": 8}, "resolution is 8, expected at least"), ({"backbone": "vgg"}, "expected one of resnet101")],
)
def test_an_impossible_network_is_refused(change: dict, message: str) -> None:
    values = {"backbone": "resnet50", "num_classes": 5, "image_size": 16, "resolution": 16}
    with pytest.raises(ValueError, match=message):
        StudentConfig(**{**values, **change})


def test_a_bundle_comes_back_and_is_any_model(bundle: StudentBundle, tmp_path: Path) -> None:
    uri = str(tmp_path / "student")
    header = save_student(bundle, uri)
    assert save_student(bundle, uri).model_id == header.model_id
    read, task = read_trained_header(uri)
    assert (read.model_id, read.image_size, task) == (header.model_id, 16, TASK)
    loaded = load_model(uri)
    assert isinstance(loaded, StudentBundle)
    assert loaded.student == CONFIG
    assert all(torch.equal(loaded.weights[key], value) for key, value in bundle.weights.items())
    assert isinstance(resident(loaded, device="cpu"), StudentSegmenter)
    with pytest.raises(ValueError, match="use float32, bfloat16 or float16 for a student"):
        resident(loaded, device="cpu", dtype="int8")
    with pytest.raises(ValueError, match="use float32, bfloat16 or float16 for a student"):
        plan_label(LabelConfig(model=uri, output=str(tmp_path / "labels"), dtype="int8"))


def test_what_is_not_a_student_or_not_whole_is_refused(bundle: StudentBundle, tmp_path: Path) -> None:
    uri = str(tmp_path / "student")
    save_student(bundle, uri)
    for read in (read_header, load_bundle):
        with pytest.raises(BundleError, match="holds a student, which labels images but has no DDPM"):
            read(uri)
    other = StudentBundle(student=CONFIG, weights=Student(CONFIG).state_dict(), task=TASK)
    with pytest.raises(FileExistsError, match="another bundle exists"):
        save_student(other, uri)
    with pytest.raises(FileExistsError, match="another bundle exists"):
        save_bundle(tiny_bundle(), uri)
    content = json.loads((tmp_path / "student/bundle.json").read_text())
    (tmp_path / "student/bundle.json").write_text(json.dumps({**content, "student": {"backbone": "resnet50"}}))
    with pytest.raises(BundleError, match=r"bundle\.json"):
        load_student(uri)
    (tmp_path / "student/bundle.json").write_text(json.dumps(content))
    (tmp_path / "student/student.safetensors").unlink()
    with pytest.raises(BundleError, match=r"student\.safetensors is missing"):
        load_student(uri)


def test_confidence_and_entropy_are_those_of_the_softmax(bundle: StudentBundle) -> None:
    segmenter, pixels = StudentSegmenter(bundle, device="cpu", batch_size=2), images(3, 16)
    labels = segmenter.segment(pixels)
    for image, found in zip(pixels, labels, strict=True):
        p_KSS = segmenter.probabilities(image).astype(np.float64)
        np.testing.assert_allclose(p_KSS.sum(axis=0), 1, rtol=1e-5)
        np.testing.assert_allclose(found.confidence, p_KSS.max(axis=0), atol=1e-4)
        np.testing.assert_allclose(found.uncertainty, -(p_KSS * np.log(p_KSS)).sum(axis=0), atol=1e-3)
        assert (found.label == p_KSS.argmax(axis=0)).mean() > 0.99
        assert found.finite


def test_images_of_another_size_are_refused(bundle: StudentBundle) -> None:
    with pytest.raises(ValueError, match=r"images must be \(N, 16, 16, 3\) uint8"):
        StudentSegmenter(bundle, device="cpu").segment(images(1, 8))


@pytest.mark.parametrize("average", ["mirror", "shifts"])
def test_its_uncertainty_over_several_views_is_the_entropy_of_their_mean(bundle: StudentBundle, average: str) -> None:
    averaged = resident(bundle, average=average)  # type: ignore[arg-type]
    canvases = images(2, averaged.image_size)
    for found, canvas in zip(averaged.segment(canvases), canvases, strict=True):
        p = averaged.probabilities(canvas).astype(np.float64)
        times = averaged.image_size // CONFIG.image_size
        p = p.reshape(len(p), 16, times, 16, times).mean(axis=(2, 4))
        np.testing.assert_allclose(found.uncertainty, -(p * np.log(p)).sum(axis=0), atol=1e-4)
        np.testing.assert_allclose(found.confidence, p.max(axis=0), atol=1e-5)
