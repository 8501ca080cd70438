"""The conversion job: real files in, a bundle out, one line for every mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from jobs.convert import main
from tests.model.published.published_files import (
    FLAGS,
    unet_state,
    write_modelscope,
    write_published,
    write_published_backbone,
)
from tests.model.recorded_vdvae_alae import DEC_BLOCKS, ENC_BLOCKS, save, save_alae, state

pytestmark = pytest.mark.usefixtures("small_checkpoints")

OF_MAE = ["--classifiers", "{classifiers}", "--experiment", "{experiment}"]


def as_flags(paths: dict[str, str], *more: str) -> list[str]:
    return [word for name, path in paths.items() for word in (f"--{name}", path)] + list(more)


def test_it_writes_a_bundle_and_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "bundle"
    arguments = as_flags(write_published(tmp_path), "--model-flags", FLAGS, "--output", str(output))
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    bundle = load_bundle(str(output))
    assert str(output) in printed
    assert "cat_15, 3 classifiers" in printed
    assert "ddpm-seg label --model" in printed
    assert torch.equal(bundle.weights["out.2.weight"], unet_state()["out.2.weight"])
    assert main(arguments) == 0  # the same again is no mistake
    assert capsys.readouterr().out == printed


def test_modelscope(tmp_path: Path) -> None:
    write_modelscope(tmp_path / "model")
    assert main(["--modelscope", str(tmp_path / "model"), "--output", str(tmp_path / "bundle")]) == 0
    assert len(load_bundle(str(tmp_path / "bundle")).members) == 3


def test_a_ddpm_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ddpm = write_published(tmp_path)["ddpm"]
    assert main(["--ddpm", ddpm, f"--model-flags={FLAGS}", "--output", str(tmp_path / "bundle")]) == 0
    assert "ddpm-seg train" in capsys.readouterr().out
    assert load_bundle(str(tmp_path / "bundle")).members == ()


@pytest.mark.parametrize(("name", "title"), [("mae64", "MAE"), ("swav64", "SwAV")])
def test_what_the_paper_compares_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, title: str
) -> None:
    paths, output = write_published_backbone(tmp_path, name), tmp_path / "bundle"
    assert main([*as_flags(paths), "--output", str(output)]) == 0
    assert "cat_15, 3 classifiers" in capsys.readouterr().out
    bundle = load_bundle(str(output))
    assert (bundle.network.title, bundle.network.image_size, bundle.noise) == (title, 64, None)
    assert bundle.features == bundle.network.published_features()
    del paths["classifiers"], paths["experiment"]
    assert main([*as_flags(paths), "--output", str(tmp_path / "alone")]) == 0
    assert f"a {title} without classifiers" in capsys.readouterr().out


def test_a_vdvae_needs_the_flags_of_its_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = save(tmp_path / "ema.th", state("vdvae32"), legacy=True), str(tmp_path / "bundle")
    flags = f"--enc_blocks {ENC_BLOCKS} --dec_blocks {DEC_BLOCKS}"
    assert main(["--vdvae", path, "--model-flags", flags, "--output", output]) == 2
    assert capsys.readouterr().err.endswith("give the flags that it was trained with as --model-flags: --dataset\n")
    assert main(["--vdvae", path, "--model-flags", f"{flags} --dataset=ffhq_256", "--output", output]) == 0
    assert "a VDVAE without classifiers" in capsys.readouterr().out
    bundle = load_bundle(output)
    assert (bundle.network.image_size, bundle.network.block_channels, bundle.noise) == (32, [48] * 23, None)
    flags_kept = {"enc_blocks": ENC_BLOCKS, "dec_blocks": DEC_BLOCKS, "dataset": "ffhq_256"}
    assert bundle.provenance["converted"] == {"vdvae": "ema.th", "model_flags": flags_kept}


def test_an_alae_needs_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = save_alae(tmp_path / "model_157.pth", state("alae128")), str(tmp_path / "bundle")
    assert main(["--alae", path, "--image-size", "32", "--output", str(tmp_path / "enlarged")]) == 0
    assert load_bundle(str(tmp_path / "enlarged")).network.block_channels == [32, 32, 32, 32, 32]
    capsys.readouterr()
    assert main(["--alae", path, "--output", output]) == 0
    assert "a StyleALAE without classifiers" in capsys.readouterr().out
    bundle = load_bundle(output)
    assert (bundle.network.image_size, bundle.network.block_channels) == (128, [16, 32, 32, 32, 32, 32])
    assert (bundle.noise, bundle.provenance["converted"]) == (None, {"alae": "model_157.pth"})
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == {"bundle.json", "alae.safetensors"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--vdvae", "x.th", "--noise-generator", "cpu"], "--noise-generator cannot be combined with --vdvae"),
        (["--vdvae", "x.th", *OF_MAE], "--classifiers cannot be combined with --vdvae: leave it out"),
        (
            ["--vdvae", "x.th", "--model-flags", "--num_channels 64"],
            "unknown '--num_channels'; expected --FLAG",
        ),
        (["--vdvae", "x.th", "--model-flags", "--hps"], "--hps has no value"),
        (["--alae", "x.pth", "--model-flags", "--width 512"], "--model-flags cannot be combined with --alae"),
        (["--alae", "x.pth", "--vdvae", "x.th"], "give only one of --vdvae, --alae"),
        (["--alae", "x.pth"], "x.pth"),
    ],
)
def test_flags_that_a_vdvae_and_an_alae_do_not_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main([*flags, "--output", str(tmp_path / "bundle")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "changes", "message"),
    [
        (["--ddpm", "{mae}"], {}, "is a MAE checkpoint; use --mae"),
        (["--swav", "{mae}"], {}, "is a MAE checkpoint; use --mae"),
        (["--mae", "{mae}", "--swav", "{mae}"], {}, "a bundle holds one network: give only one of --mae, --swav"),
        (
            ["--mae", "{mae}", "--noise-seed", "1"],
            {},
            "--noise-seed cannot be combined with --mae: leave it out",
        ),
        (["--mae", "{mae}", "--model-flags=--image_size 64"], {}, "--model-flags cannot be combined with --mae"),
        (["--mae", "{mae}", *OF_MAE], {"model_type": "swav", "input_activations": True}, "--swav, but --mae is given"),
        (["--mae", "{mae}", *OF_MAE], {"input_activations": True}, "only classifiers on the blocks' outputs"),
        (["--mae", "{mae}", *OF_MAE], {"dim": [256, 256, 1536]}, "256x256, but the network's image_size is 64"),
        (["--mae", "{mae}", *OF_MAE], {"dim": [64, 64, 12288]}, "12288 feature channels"),
        (["--mae", "{mae}", *OF_MAE], {"model_type": "vit"}, "model_type 'vit'; expected one of ddpm, mae, swav"),
    ],
)
def test_a_network_for_another_flag_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], changes: dict[str, Any], message: str
) -> None:
    paths, output = write_published_backbone(tmp_path, "mae64", **changes), tmp_path / "bundle"
    assert_refused([*(flag.format(**paths) for flag in flags), "--output", str(output)], message, capsys)
    assert not output.exists()


def test_files_and_bundle_in_object_storage(tmp_path: Path, s3: Callable[[], str]) -> None:
    remote = s3()
    write_published(tmp_path)
    for file in storage.list_files(str(tmp_path)):
        storage.write_bytes(
            storage.join(remote, Path(file.uri).relative_to(tmp_path).as_posix()), Path(file.uri).read_bytes()
        )
    names = {"ddpm": "cat.pt", "classifiers": "pixel_classifiers", "experiment": "ddpm.json"}
    paths = {flag: storage.join(remote, name) for flag, name in names.items()}
    output = storage.join(remote, "bundle")
    assert main(as_flags(paths, "--model-flags", FLAGS, "--output", output)) == 0
    assert len(load_bundle(output).members) == 3


def test_another_bundle_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "bundle"
    arguments = as_flags(write_published(tmp_path), "--model-flags", FLAGS, "--output", str(output))
    main(arguments)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    assert_refused([*arguments, "--noise-seed", "1"], "another bundle", capsys)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def assert_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, and one line on stderr."""
    capsys.readouterr()
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("kind", ["ddpm", "mae", "swav", "classifiers"])
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_not_finite_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, value: float
) -> None:
    """For --diffusers see tests/model/published/test_diffusers_folders.py."""
    published = kind in ("ddpm", "classifiers")
    paths = write_published(tmp_path) if published else write_published_backbone(tmp_path, f"{kind}64")
    file = Path(paths[kind]) / "model_1.pth" if kind == "classifiers" else Path(paths[kind])
    content = torch.load(file, weights_only=False)
    state = next((content[key] for key in ("model", "state_dict", "model_state_dict") if key in content), content)
    key = next(key for key in state if key.endswith("weight") and "decoder" not in key)
    state[key] = torch.full(state[key].shape, value)
    torch.save(content, file)
    output = tmp_path / "bundle"
    flags = [*as_flags(paths), *(["--model-flags", FLAGS] if published else []), "--output", str(output)]
    assert_refused(flags, f"{key.removeprefix('module.')} has values that are not finite", capsys)
    assert not output.exists()


@pytest.mark.parametrize(
    ("leave_out", "more", "message"),
    [
        ("ddpm", [], "give --ddpm"),
        ("classifiers", [], "add --classifiers"),
        ("experiment", [], "add --experiment"),
        ("", ["--modelscope", "model"], "cannot be combined with --ddpm"),
        ("", ["--model-flags", "--num_channels 64"], "--num_channels 64, but the checkpoint has num_channels 32"),
        ("", ["--model-flags", "--num_chanels=64"], "num_chanels"),
        ("", ["--noise", "absent.npy"], "absent.npy"),
        ("", ["--noise", "n.npy", "--noise-generator", "cpu"], "leave out --noise-generator"),
        ("", ["--noise-seed", "-1"], "noise seed -1"),
        ("", ["--ddpm", "absent.pt"], "absent.pt"),
        ("", ["--classifiers", "absent"], "model_0.pth"),
    ],
)
def test_mistakes_take_one_line_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], leave_out: str, more: list[str], message: str
) -> None:
    paths = {name: path for name, path in write_published(tmp_path).items() if name != leave_out}
    output = tmp_path / "bundle"
    flags = FLAGS if "--model-flags" not in more else f"{FLAGS} {more[more.index('--model-flags') + 1]}"
    rest = more if "--model-flags" not in more else []
    assert_refused(as_flags(paths, *rest, "--model-flags", flags, "--output", str(output)), message, capsys)
    assert not output.exists()
