"""Bundles that nobody here wrote: one line that names the file, the key, the value and what was expected."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, read_header, save_bundle
from ddpm_seg.model.bundle.student_bundle import StudentBundle, save_student
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.networks.student import StudentConfig
from ddpm_seg.model.trained import load_model, read_trained_header
from jobs import generate, label
from tests.model.bundle import fuzz_bundles
from tests.model.published.tiny_diffusers import TINY_DIFFUSERS
from tests.model.tiny_networks import TINY_ALAE, TINY_MAE, TINY_SWAV, TINY_VDVAE, backbone_bundle
from tests.tiny_bundle import TASK, tiny_bundle

Content = dict[str, Any]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda content: content.update(num_members=10**12), "num_members is 1000000000000, expected an integer from"),
        (lambda content: content.update(num_members="2"), "num_members is '2'"),
        (lambda content: content.update(num_members=None), "num_members is None"),
        (lambda content: content.update(num_members=True), "num_members is True"),
        (lambda content: content.update(files={"../../dev/zero": "0" * 64}), "files: unet.safetensors is missing"),
        (lambda content: content["files"].update({"../../dev/zero": "0" * 64}), "files has '../../dev/zero', expected"),
        (lambda content: content["files"].update({"unet.safetensors": "abc"}), "unet.safetensors is 'abc', expected a"),
        (lambda content: content["files"].update({"unet.safetensors": None}), "expected a sha256 of 64 hex digits"),
        (
            lambda content: content.update(files=["unet.safetensors"]),
            r"files is \['unet.safetensors'\], expected an obj",
        ),
        (lambda content: content["unet"].update(num_res_blocks=10**9), "num_res_blocks must be at most 32"),
        (
            lambda content: content["unet"].update(image_size=2**40),
            "image_size must be at most 2048, got 1099511627776",
        ),
        (lambda content: content["unet"].update(num_channels=10**400), "unet.num_channels is a huge integer"),
        (lambda content: content["unet"].update(num_channels="32"), "unet.num_channels is '32', expected an integer"),
        (lambda content: content["unet"].update(num_channels=32.0), "unet.num_channels is 32.0, expected an integer"),
        (
            lambda content: content["unet"].update(channel_mult=[1, None]),
            r"unet.channel_mult\[1\] is None, expected a nu",
        ),
        (lambda content: content["unet"].update(channel_mult=[1.0] * 10**5), "levels .* at most 12, got 100000"),
        (lambda content: content["unet"].update(channel_mult=[1e300]), "must be at most 16384"),
        (lambda content: content["unet"].update(attention_resolutions=[0]), "attention_resolutions must be positive"),
        (lambda content: content["unet"].update(dropout=float("nan")), "unet.dropout is None, expected a number"),
        (lambda content: content["unet"].pop("num_channels"), "unet.num_channels is missing"),
        (lambda content: content.update(unet=None), "unet is None, expected an object"),
        (lambda content: content.update(mae=content["unet"]), "unet and mae; expected one"),
        (lambda content: content["diffusion"].update(steps=10**11), "diffusion steps must be at most 100000"),
        (lambda content: content.update(diffusion=None), "diffusion is None, expected an object"),
        (lambda content: content["features"].update(steps=[10] * 5000), "number of steps must be at most 1000"),
        (lambda content: content["features"].update(steps=None), "features.steps is None, expected a list"),
        (lambda content: content["features"].update(blocks=[99]), r"blocks must lie in 0\.\.3"),
        (lambda content: content["task"].update(class_names=[None] * 5), "name None; expected a string"),
        (
            lambda content: content["task"].update(class_names=["a", "b", "c", "d", "\ud800"]),
            "expected a string of text",
        ),
        (lambda content: content["task"].update(palette=[[0, 0, 999]] * 5), "three integers from 0 to 255"),
        (lambda content: content["task"].update(ignore_label=True), "ignore_label True"),
        (lambda content: content.update(task=[]), r"task is \[\], expected an object"),
        (lambda content: content.update(input_size=17), "input_size is 17, but the network's is 16"),
        (lambda content: content.update(provenance=None), "provenance is None, expected an object"),
        (lambda content: content.update(provenance=_nested(200)), "nested more than 50 deep"),
        (lambda content: content.update(schema_version=[1]), r"has schema version \[1\]"),
    ],
)
def test_odd_descriptions(saved: Path, change: Callable[[Content], object], named: str) -> None:
    _change(saved, change)
    for read in (load_model, load_bundle, read_header, read_trained_header):
        _assert_refused(read, saved, named)


def test_odd_descriptions_of_other_networks(tmp_path: Path) -> None:
    cases: list[tuple[str, Callable[[Content], object], str]] = [
        ("mae", lambda content: content["mae"].update(depth=10**9), "depth must be at most 256"),
        ("mae", lambda content: content["mae"].update(width=None), "mae.width is None, expected an integer"),
        ("mae", lambda content: content["mae"].update(num_heads=0), "num_heads must be at least 1"),
        ("swav", lambda content: content["swav"].update(width=2**40), "width must be at most 512"),
        ("swav", lambda content: content.update(swav=7), "swav is 7, expected an object"),
        (
            "vdvae",
            lambda content: content["vdvae"].update(enc_blocks="32x99999"),
            "enc_blocks must be at most 256",
        ),
        (
            "vdvae",
            lambda content: content["vdvae"].update(enc_blocks=["32"]),
            "vdvae.enc_blocks is .*expected a str",
        ),
        ("vdvae", lambda content: content["vdvae"].update(dec_blocks="2"), "dec_blocks 2: a block at 2, but"),
        ("vdvae", lambda content: content["vdvae"].update(zdim=10**9), "zdim must be at most 16384"),
        ("vdvae", lambda content: content["vdvae"].update(deviation=float("nan")), "vdvae.deviation is None, expected"),
        ("alae", lambda content: content["alae"].update(widths=[8] * 10**5), "must be at most 10, got 99999"),
        (
            "alae",
            lambda content: content["alae"].update(widths=[8, None]),
            r"alae.widths\[1\] is None, expected",
        ),
        ("alae", lambda content: content["alae"].update(image_size=48), "image_size must be a power of 2, got 48"),
        ("diffusers", lambda content: content["diffusers_unet"].update(layers_per_block=10**9), "at most 32"),
        ("diffusers", lambda content: content["diffusers_unet"].update(norm_num_groups=0), "at least 1, got 0"),
        ("diffusers", lambda content: content["diffusers_unet"].update(down_block_types=7), "expected a list"),
        ("diffusers", lambda content: content["diffusers_unet"].update(act_fn="none"), "cannot be built"),
        ("student", lambda content: content["student"].update(resolution=10**9), "resolution must be at most 4096"),
        ("student", lambda content: content["student"].update(backbone=["x"]), "student.backbone is"),
        ("student", lambda content: content["student"].update(num_classes=10**9), "num_classes must be at most 255"),
        ("student", lambda content: content.update(student=None), "student is None, expected an object"),
        ("student", lambda content: content["files"].update({"../x": "0" * 64}), "files has '../x'"),
    ]
    for network in (TINY_MAE, TINY_SWAV, TINY_VDVAE, TINY_ALAE):
        save_bundle(backbone_bundle(network, num_members=1), str(tmp_path / network.kind))
    save_bundle(backbone_bundle(TINY_DIFFUSERS, num_members=1), str(tmp_path / "diffusers"))
    student = StudentConfig(backbone="mobilenet_v3_large", num_classes=5, image_size=16, resolution=16)
    weights = {key: torch.zeros(shape) for key, shape in weight_shapes(student).items()}
    save_student(StudentBundle(student=student, weights=weights, task=TASK), str(tmp_path / "student"))
    for name, change, named in cases:
        whole = (tmp_path / name / "bundle.json").read_bytes()
        _change(tmp_path / name, change)
        _assert_refused(load_model, tmp_path / name, named)
        (tmp_path / name / "bundle.json").write_bytes(whole)
        load_model(str(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b'{"schema_version": 1, "schema_version": 2}', "'schema_version' appears twice"),
        (b"[" * 10**6, "nested more than 50 deep"),
        (b" " * 2**24 + b"{}", "more than 16777216 bytes"),
        (b'{"a": "\xff"}', "not JSON: 'utf-8' codec"),
        (b'{"schema_version": ' + b"9" * 10**5 + b"}", "not JSON: Exceeds the limit"),
    ],
)
def test_text_that_is_no_description(saved: Path, text: bytes, named: str) -> None:
    (saved / "bundle.json").write_bytes(text)
    _assert_refused(load_model, saved, named)


def test_a_byte_order_mark_is_read_over(saved: Path) -> None:
    model_id = read_header(str(saved)).model_id
    (saved / "bundle.json").write_bytes(b"\xef\xbb\xbf" + (saved / "bundle.json").read_bytes())
    assert read_header(str(saved)).model_id == model_id


def test_a_score_that_is_no_number_is_kept_as_null(saved: Path, tmp_path: Path) -> None:
    """Earlier versions wrote a bare NaN where a training had diverged; nobody computes with what stands there."""
    model_id = read_header(str(saved)).model_id
    _change(saved, lambda content: content.update(provenance={"final_loss": float("nan")}))
    assert b"NaN" in (saved / "bundle.json").read_bytes()
    bundle = load_bundle(str(saved))
    assert bundle.provenance == {"final_loss": None}
    assert save_bundle(bundle, str(tmp_path / "again")).model_id == model_id
    assert b"NaN" not in (tmp_path / "again" / "bundle.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors: tensors["noise"].fill_(float("nan")), "noise has values that are not finite"),
        (lambda tensors: tensors.update(noise=tensors["noise"].long()), "noise is of type 'I64', expected one of F16"),
        (lambda tensors: tensors.update(noise=torch.zeros(1, 3, 8, 8)), r"is \(1, 3, 8, 8\), expected \(1, 3, 16"),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "it has more, which the network lacks"),
        (lambda tensors: tensors.clear(), "it lacks noise"),
    ],
)
def test_tensors_that_are_not_the_models(
    saved: Path, change: Callable[[dict[str, torch.Tensor]], object], named: str
) -> None:
    tensors = safetensors.torch.load_file(saved / "noise.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, saved / "noise.safetensors")
    _sign(saved, "noise.safetensors")
    _assert_refused(load_model, saved, named)


def test_files_that_are_none(saved: Path, tmp_path: Path) -> None:
    path, whole = saved / "noise.safetensors", (saved / "noise.safetensors").read_bytes()
    (tmp_path / "elsewhere").write_bytes(whole)

    def sparse() -> None:
        with path.open("wb") as file:
            file.truncate(2**40)

    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: path.symlink_to(tmp_path / "elsewhere"), "is a link to a file outside the bundle"),
        (lambda: path.symlink_to("/dev/zero"), "is a link to a file outside the bundle"),
        (lambda: path.symlink_to(path.name), "incomplete: noise.safetensors is missing"),
        (lambda: os.mkfifo(path), "noise.safetensors is not an ordinary file"),
        (path.mkdir, "noise.safetensors is not an ordinary file"),
        (sparse, "larger than what bundle.json describes"),
    ]
    for replace, named in cases:
        path.unlink()
        replace()
        _assert_refused(load_model, saved, named)
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(whole)
    path.rename(saved / "kept")  # a link that stays inside, as Kubernetes makes them, is fine
    path.symlink_to("kept")
    load_model(str(saved))
    path.write_bytes(bytes(7) + b"\x80" + whole[8:])
    _sign(saved, "noise.safetensors")
    _assert_refused(load_model, saved, "says that its header has 9223372036854775808 bytes")


def test_what_a_description_promises_takes_no_memory(saved: Path) -> None:
    """Billions of parameters: the file is read up to its own end, not into as much memory as they would take."""
    _change(saved, lambda content: content["unet"].update(num_channels=6144, channel_mult=[1, 1]))
    _assert_refused(load_model, saved, r"unet\.safetensors: ")


def test_a_dry_run_refuses_what_the_run_would(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (saved / "ensemble.safetensors").write_bytes(b"half")
    asked = ["--model", str(saved), "--output", str(tmp_path / "out"), "--dry-run"]
    for main in (label.main, generate.main):
        assert main(asked) == 2
        assert "ensemble.safetensors is damaged" in capsys.readouterr().err


def test_changed_bundles_are_refused_or_are_models(tmp_path: Path) -> None:
    """`python -m tests.model.bundle.fuzz_bundles --count 3000` is the long run."""
    faults: list[str] = []
    counts = fuzz_bundles.fuzz(30, 7, tmp_path, faults.append)
    assert faults == []
    assert {outcome for _, outcome in counts} == {"model", "refused"}


def _change(folder: Path, change: Callable[[Content], object]) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    change(content)
    (folder / "bundle.json").write_text(json.dumps(content))


def _sign(folder: Path, name: str) -> None:
    sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    _change(folder, lambda content: content["files"].update({name: sha256}))


def _assert_refused(read: Callable[[str], object], folder: Path, named: str) -> None:
    with pytest.raises(BundleError, match=named) as raised:
        read(str(folder))
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


def _nested(depth: int) -> Content:
    content: Content = {}
    for _ in range(depth):
        content = {"deeper": content}
    return content
