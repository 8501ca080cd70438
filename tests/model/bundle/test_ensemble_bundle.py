"""Bundles on disk: what is written is what is read, and anything else is refused with its reason."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from ddpm_seg.model.bundle import network_json
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle, read_header, save_bundle
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.network import Network
from ddpm_seg.model.networks.known import NETWORKS
from ddpm_seg.model.segmenter import Segmenter
from tests.model.tiny_networks import TINY_ALAE, TINY_MAE, TINY_SWAV, TINY_VDVAE, backbone_bundle, images
from tests.model.toy_drawer import ToyConfig
from tests.tiny_bundle import tiny_bundle


@pytest.fixture
def bundle() -> Bundle:
    return dataclasses.replace(tiny_bundle(), provenance={"made_by": "a test", "step": 7})


@pytest.fixture
def saved(bundle: Bundle, tmp_path: Path) -> Path:
    save_bundle(bundle, str(tmp_path / "model"))
    return tmp_path / "model"


def test_round_trip(bundle: Bundle, saved: Path) -> None:
    read = load_bundle(str(saved))
    for name in ("network", "features", "task", "provenance"):
        assert getattr(read, name) == getattr(bundle, name)
    assert torch.equal(read.noise, bundle.noise)
    _assert_equal(read.weights, bundle.weights)
    assert len(read.members) == len(bundle.members)
    for actual, expected in zip(read.members, bundle.members, strict=True):
        _assert_equal(actual, expected)
    pictures = images(2, 16)
    as_saved, as_read = (Segmenter(model, device="cpu").segment(pictures) for model in (bundle, read))
    for a, b in zip(as_saved, as_read, strict=True):
        np.testing.assert_array_equal(a.label, b.label)


def test_members_keep_their_order_beyond_ten(bundle: Bundle, tmp_path: Path) -> None:
    many = tuple(tiny_bundle(seed).members[0] for seed in range(12))
    save_bundle(dataclasses.replace(bundle, members=many), str(tmp_path / "model"))
    for actual, expected in zip(load_bundle(str(tmp_path / "model")).members, many, strict=True):
        _assert_equal(actual, expected)


def test_ddpm_without_an_ensemble_round_trips(bundle: Bundle, tmp_path: Path) -> None:
    ddpm = dataclasses.replace(bundle, members=(), features=None, task=None)
    save_bundle(ddpm, str(tmp_path / "ddpm"))
    read = load_bundle(str(tmp_path / "ddpm"))
    assert (read.features, read.task, read.members) == (None, None, ())
    _assert_equal(read.weights, ddpm.weights)


@pytest.mark.parametrize(
    ("network", "version"),
    [(TINY_MAE, 2), (TINY_SWAV, 2), (TINY_VDVAE, 3), (TINY_ALAE, 3)],
    ids=["MAE", "SwAV", "VDVAE", "ALAE"],
)
def test_other_networks_round_trip(network: Network, version: int, tmp_path: Path) -> None:
    bundle = backbone_bundle(network)
    header = save_bundle(bundle, str(tmp_path / "model"))
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "bundle.json",
        f"{network.kind}.safetensors",
        "ensemble.safetensors",
    }
    # Earlier versions, which do not know this network, say that they cannot read it.
    assert json.loads((tmp_path / "model" / "bundle.json").read_text())["schema_version"] == version
    read = load_bundle(str(tmp_path / "model"))
    assert (read.network, read.features, read.task, read.noise) == (network, bundle.features, bundle.task, None)
    _assert_equal(read.weights, bundle.weights)
    assert read_header(str(tmp_path / "model")).model_id == header.model_id
    with pytest.raises(BundleError, match=f"needs a DDPM, .* holds a {network.title}"):
        _ = read.ddpm
    with pytest.raises(BundleError, match=r"noise must be None, got \(1, 3, 32, 32\)"):
        dataclasses.replace(bundle, noise=torch.zeros(1, 3, 32, 32))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LatentConfig(ToyConfig):
    """A network whose noise is not of the image's shape."""

    kind: ClassVar[str] = "latent"

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (1, 4, self.image_size // 8, self.image_size // 8)


def test_a_networks_own_noise_is_part_of_its_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_json, "NETWORKS", (*NETWORKS, LatentConfig))
    bundle = backbone_bundle(LatentConfig(image_size=32, width=4))
    save_bundle(bundle, str(tmp_path / "model"))
    read = load_bundle(str(tmp_path / "model"))
    assert read.network == bundle.network
    assert read.noise.shape == (1, 4, 4, 4)
    assert torch.equal(read.noise, bundle.noise)
    with pytest.raises(BundleError, match=r"noise must be \(1, 4, 4, 4\), got \(1, 3, 32, 32\)"):
        dataclasses.replace(bundle, noise=torch.zeros(1, 3, 32, 32))


def test_a_network_that_this_version_does_not_know_is_said_so(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, str(tmp_path / "model"))
    path = tmp_path / "model" / "bundle.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**{key: value for key, value in content.items() if key != "unet"}, "later": {}}))
    with pytest.raises(BundleError, match="describes no network that this version"):
        read_header(str(tmp_path / "model"))


def test_a_ddpms_bundle_keeps_its_schema_version(saved: Path) -> None:
    assert json.loads((saved / "bundle.json").read_text())["schema_version"] == 1
    assert read_header("avatars-10").model_id == "d27ce97be82479b9"


def test_model_id_is_kept_on_disk_and_tells_models_apart(bundle: Bundle, tmp_path: Path) -> None:
    def model_id(changed: Bundle) -> str:
        folder = str(tmp_path / str(random.getrandbits(64)))
        header = save_bundle(changed, folder)
        assert read_header(folder).model_id == header.model_id
        assert save_bundle(load_bundle(folder), folder + "-again").model_id == header.model_id
        return header.model_id

    assert bundle.features is not None
    assert bundle.task is not None
    first = model_id(bundle)
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert model_id(tiny_bundle()) == first  # who made it does not matter
    key = "time_embed.0.bias"
    cosine = dataclasses.replace(bundle.ddpm.diffusion, noise_schedule="cosine")
    changes: list[dict[str, Any]] = [
        {"weights": {**bundle.weights, key: bundle.weights[key] + 1e-3}},
        {"noise": bundle.noise + 1e-3},
        {"members": bundle.members[:1]},
        {"members": bundle.members[::-1]},
        {"features": dataclasses.replace(bundle.features, steps=(11,))},
        {"features": dataclasses.replace(bundle.features, upsample_mode="nearest")},
        {"network": dataclasses.replace(bundle.ddpm, diffusion=cosine)},
        {"network": dataclasses.replace(bundle.ddpm, unet=dataclasses.replace(bundle.ddpm.unet, num_heads=2))},
        {"task": dataclasses.replace(bundle.task, name="other")},
    ]
    ids = [model_id(dataclasses.replace(bundle, **change)) for change in changes]
    assert len({first, *ids}) == 1 + len(changes)


def test_the_same_bundle_may_be_saved_again_but_not_another(bundle: Bundle, saved: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in saved.iterdir()}
    save_bundle(bundle, str(saved))
    with pytest.raises(FileExistsError, match=f"another bundle exists at {saved}"):
        save_bundle(tiny_bundle(seed=1), str(saved))
    assert {path.name: path.stat().st_mtime_ns for path in saved.iterdir()} == before


def test_an_interrupted_save_is_no_bundle_and_can_be_repeated(bundle: Bundle, saved: Path) -> None:
    (saved / "bundle.json").unlink()
    (saved / "unet.safetensors").write_bytes(b"half")
    with pytest.raises(BundleError, match=r"bundle\.json is missing"):
        load_bundle(str(saved))
    save_bundle(bundle, str(saved))
    _assert_equal(load_bundle(str(saved)).weights, bundle.weights)


@pytest.mark.parametrize("name", ["unet.safetensors", "ensemble.safetensors", "noise.safetensors"])
def test_a_flipped_byte_is_refused(saved: Path, name: str) -> None:
    for position in (0, 100, -1):
        _flip(saved / name, position)
        with pytest.raises(BundleError, match=f"{name} is damaged"):
            load_bundle(str(saved))
        _flip(saved / name, position)
    load_bundle(str(saved))


def test_a_flipped_byte_in_the_description_is_refused_or_makes_another_model(saved: Path) -> None:
    """Never an exception that is not about the bundle, never other weights under the same name."""
    path = saved / "bundle.json"
    whole, model_id = path.read_bytes(), read_header(str(saved)).model_id
    draw = random.Random(0)
    for _ in range(400):
        _flip(path, draw.randrange(len(whole)), draw.choice([1, 2, 4, 8, 16, 32, 64, 128]))
        with contextlib.suppress(BundleError):
            changed = read_header(str(saved))
            if changed.model_id == model_id:
                assert dict(changed.files) == json.loads(whole)["files"]
            else:
                load_bundle(str(saved))
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["unet.safetensors", "ensemble.safetensors", "noise.safetensors"])
def test_a_missing_file_is_refused(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(BundleError, match=f"incomplete: {name} is missing"):
        load_bundle(str(saved))
    with pytest.raises(BundleError, match=name):
        read_header(str(saved))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda content: content.update(schema_version=5), "schema version 5; this version reads 1, 2, 3, 4"),
        (lambda content: content.pop("schema_version"), "schema version None"),
        (lambda content: content.pop("unet"), "'unet'"),
        (lambda content: content["unet"].update(num_channels=33), "33"),
        (lambda content: content["unet"].update(width=3), "width"),
        (lambda content: content["unet"].update(channel_mult=[1, 1]), r"input_blocks\.3\.0"),
        (lambda content: content["features"].update(blocks=[0]), "member_0"),
        (lambda content: content["features"].update(steps=[100]), r"0\.\.99, got \(100,\)"),
        (lambda content: content["diffusion"].update(noise_schedule="square"), "'square'"),
        (lambda content: content["task"]["class_names"].pop(), "5 colours for 4 classes"),
        (lambda content: content.update(task=None), "no features or no task"),
        (lambda content: content.update(num_members=1), r"it has member_1\..*, which the network lacks"),
        (lambda content: content.update(num_members=3), "it lacks member_2"),
        (lambda content: content["files"].pop("unet.safetensors"), r"unet\.safetensors is missing"),
        (lambda content: content["files"].pop("ensemble.safetensors"), r"ensemble\.safetensors is missing"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(
    saved: Path, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    content = json.loads((saved / "bundle.json").read_text())
    change(content)
    (saved / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(BundleError, match=named) as raised:
        load_bundle(str(saved))
    assert str(saved) in str(raised.value)


@pytest.mark.parametrize(("text", "named"), [("{", "is not JSON"), ("[]", "must hold a JSON object, got list")])
def test_a_description_that_is_none_is_refused(saved: Path, text: str, named: str) -> None:
    (saved / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=named):
        load_bundle(str(saved))


def test_a_bundle_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"weights of another kind")
    for name in ("avatars-11", str(tmp_path / "nowhere"), str(tmp_path / "checkpoint.pt")):
        with pytest.raises(BundleError, match=r"bundle\.json is missing\); in the box: ") as raised:
            load_bundle(name)
        assert Path(name).name in str(raised.value)


def test_a_bundle_in_the_box_has_a_name(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddpm_seg.model.bundle.files.ASSETS", saved.parent)
    assert load_bundle("model").network == tiny_bundle().network
    with pytest.raises(BundleError, match="in the box: model"):
        load_bundle("modal")


def test_impossible_bundles_are_refused(bundle: Bundle) -> None:
    weight = "input_blocks.0.0.weight"
    renamed = {f"module.{key}": value for key, value in bundle.weights.items()}
    without = {key: value for key, value in bundle.weights.items() if key != weight}
    changes: list[tuple[dict[str, Any], str]] = [
        ({"noise": torch.zeros(1, 3, 8, 8)}, r"noise must be \(1, 3, 16, 16\), got \(1, 3, 8, 8\)"),
        ({"weights": without}, f"it lacks {weight}"),
        ({"weights": {**bundle.weights, "label_emb.weight": torch.zeros(3)}}, "it has label_emb"),
        ({"weights": {**bundle.weights, weight: torch.zeros(32, 4, 3, 3)}}, r"\(32, 4, 3, 3\), expected"),
        ({"weights": renamed}, "it lacks"),
        ({"features": None}, "features and its task"),
        ({"task": None}, "features and its task"),
        ({"features": dataclasses.replace(bundle.features, steps=(10, 20))}, r"member 0: layers\.0\.weight"),  # type: ignore[type-var]
    ]
    for change, named in changes:
        with pytest.raises(BundleError, match=named):
            dataclasses.replace(bundle, **change)


def _assert_equal(actual: Any, expected: Any) -> None:
    assert set(actual) == set(expected)
    for key, value in expected.items():
        assert actual[key].dtype == value.dtype
        assert torch.equal(actual[key], value), key


def _flip(path: Path, position: int, bits: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= bits
    path.write_bytes(data)
