"""The avatars job writes the published layout, from the command line."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.avatars.splits import AVATAR_SPLITS, HELD_OUT_SEEDS
from jobs.avatars import main

HIDE = "import sys; sys.modules['resvg_py'] = None; from jobs.avatars import main; sys.exit(main(sys.argv[1:]))"


def test_pairs_are_readable_and_rewritten_alike(tmp_path: Path) -> None:
    render = pytest.importorskip("ddpm_seg.data.avatars.render").render
    pytest.importorskip("resvg_py")
    arguments = ["--output", str(tmp_path / "set"), "--num-images", "3", "--seed", "4"]
    assert main(arguments) == 0
    first = {file.name: file.read_bytes() for file in (tmp_path / "set").iterdir()}
    assert sorted(first) == [f"0000{i}.{suffix}" for i in range(3) for suffix in ("npy", "png")]
    for index in range(3):
        image, mask = render(4, index)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "set" / f"0000{index}.png")), image)
        stored = np.load(io.BytesIO(first[f"0000{index}.npy"]), allow_pickle=False)
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(stored, mask)
    assert main(arguments) == 0
    assert {file.name: file.read_bytes() for file in (tmp_path / "set").iterdir()} == first


def test_the_fixed_splits_are_folders_of_pictures_of_their_own_seeds(tmp_path: Path) -> None:
    render = pytest.importorskip("ddpm_seg.data.avatars.render").render
    pytest.importorskip("resvg_py")
    assert main(["--output", str(tmp_path), "--splits", "samples", "annotated-2"]) == 0
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["annotated-2", "samples"]
    for name in ("samples", "annotated-2"):
        split = AVATAR_SPLITS[name]
        assert (
            len(list((tmp_path / name).glob("*.png"))) == len(list((tmp_path / name).glob("*.npy"))) == split.num_images
        )
        last = split.num_images - 1
        picture = np.asarray(Image.open(tmp_path / name / f"{last:05d}.png"))
        np.testing.assert_array_equal(picture, render(split.seed, last)[0])


def test_no_two_splits_share_a_seed_and_none_has_a_held_out_one() -> None:
    seeds = [split.seed for split in AVATAR_SPLITS.values()]
    assert len(set(seeds)) == len(seeds)
    assert not set(seeds) & set(HELD_OUT_SEEDS)


@pytest.mark.parametrize(("flag", "value"), [("--num-images", "0"), ("--seed", "-1"), ("--splits", "tests")])
def test_wrong_numbers_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    arguments = {
        "--output": str(tmp_path / "set"),
        **({} if flag == "--splits" else {"--num-images": "1"}),
        flag: value,
    }
    assert main([part for pair in arguments.items() for part in pair]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert flag in error
    assert value in error
    assert not (tmp_path / "set").exists()


def test_absent_packages_are_named_with_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HIDE, "--output", str(tmp_path / "set"), "--num-images", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "pip install 'ddpm_seg[avatars]'" in ended.stderr
