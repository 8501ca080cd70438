from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.studies.compare import CompareConfig, compare
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.rivals.supervised import SupervisedConfig
from jobs.compare import main
from tests.annotated_boxes import SIZE, annotate
from tests.tiny_bundle import tiny_bundle

SHORT = EnsembleConfig(members=2, iterations=60)
SHORT_UNET = SupervisedConfig(width=4, levels=2, iterations=10)
PARTS = [
    *(f"{method}-annotated-{n}" for method in ("diffusion", "rgb", "untrained", "supervised") for n in (1, 2)),
    "supervised-plenty",
]


@pytest.fixture
def avatars(tmp_path: Path) -> str:
    for split, first, count in [("annotated-1", 0, 2), ("annotated-2", 2, 2), ("plenty", 4, 5), ("test", 9, 3)]:
        annotate(tmp_path / "avatars" / split, count, first=first)
    return str(tmp_path / "avatars")


@pytest.fixture
def model(tmp_path: Path) -> str:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    return str(tmp_path / "model")


def config(avatars: str, model: str, output: Path) -> CompareConfig:
    return CompareConfig(
        model=model,
        task="avatars_10",
        train=(f"{avatars}/annotated-1", f"{avatars}/annotated-2"),
        test=f"{avatars}/test",
        plenty=f"{avatars}/plenty",
        output=str(output),
    )


def flags(avatars: str, model: str, output: Path) -> list[str]:
    train = [f"{avatars}/annotated-1", f"{avatars}/annotated-2"]
    return f"--model {model} --task avatars_10 --test {avatars}/test --output {output} --train".split() + train


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.stem: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.iterdir())}


def test_every_method_is_scored_on_every_split_and_only_once(avatars: str, model: str, tmp_path: Path) -> None:
    asked = config(avatars, model, tmp_path / "out")
    results = compare(asked, ensemble=SHORT, supervised=SHORT_UNET)
    before = contents(tmp_path / "out")
    assert sorted(before) == sorted(PARTS)
    assert [result.method for result in results] == [
        *["diffusion features, 2 images"] * 2,
        *["RGB + coordinates, 2 images"] * 2,
        *["untrained UNet, 2 images"] * 2,
        *["supervised U-Net, 2 images"] * 2,
        "supervised U-Net, 5 images",
    ]
    # Two of ten classes are shown, told apart by brightness; naming all pixels background would score 0.08.
    assert all(result.miou > 0.17 for result in results if result.method.startswith("RGB"))
    assert len({result.miou for result in results if "UNet" in result.method or "diffusion" in result.method}) > 1

    (tmp_path / "out" / "rgb-annotated-2.json").unlink()
    assert compare(asked, ensemble=SHORT, supervised=SHORT_UNET) == results
    after = contents(tmp_path / "out")
    assert {part for part in PARTS if before[part] != after[part]} == {"rgb-annotated-2"}
    assert before["rgb-annotated-2"][1] == after["rgb-annotated-2"][1]


def test_what_depends_on_a_change_is_made_anew(avatars: str, model: str, tmp_path: Path) -> None:
    save_bundle(tiny_bundle(seed=1), str(tmp_path / "other"))
    compare(config(avatars, model, tmp_path / "out"), ensemble=SHORT, supervised=SHORT_UNET)
    before = contents(tmp_path / "out")
    asked = config(avatars, str(tmp_path / "other"), tmp_path / "out")
    compare(asked, ensemble=SHORT, supervised=SHORT_UNET)
    after = contents(tmp_path / "out")
    assert {part for part in PARTS if before[part] != after[part]} == {"diffusion-annotated-1", "diffusion-annotated-2"}

    np.save(Path(avatars) / "annotated-1" / "0.npy", np.zeros((SIZE, SIZE), dtype=np.uint8))
    compare(asked, ensemble=SHORT, supervised=SHORT_UNET)
    last = contents(tmp_path / "out")
    assert {part for part in PARTS if after[part] != last[part]} == {p for p in PARTS if p.endswith("annotated-1")}


@pytest.mark.slow
def test_the_command_writes_and_prints_the_table(
    avatars: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags(avatars, model, tmp_path / "out"), "--methods", "rgb"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 3
    assert "| RGB + coordinates, 2 images |" in printed
    assert (tmp_path / "out" / "comparison.md").read_text() == printed
    (row,) = json.loads((tmp_path / "out" / "comparison.json").read_bytes())
    assert row["splits"] == ["annotated-1", "annotated-2"]
    assert f"{row['miou']['mean']:.3f} ± {row['miou']['deviation']:.3f}" in printed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--model", "/nowhere"], "no model bundle at /nowhere"),
        (["--task", "cats"], "task 'cats' is not known"),
        (["--test", "/nowhere"], "/nowhere holds no annotated images"),
        (["--train", "/nowhere/annotated-3"], "annotated-3 holds no annotated images"),
        (["--train", "a/same", "b/same"], "--train has two sets with the same name: same, same"),
        (["--splits", "2"], "--splits and --shots need each other"),
        (["--splits", "2", "--shots", "2"], "--splits draws from a single --train, got 2"),
        (["--plenty", "{0}/test"], "3 of the 3 images of --plenty are among those to score on"),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_written(
    avatars: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], message: str
) -> None:
    wrong = [flag.format(avatars) for flag in wrong]
    assert main([*flags(avatars, model, tmp_path / "out"), *wrong]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not [path for path in tmp_path.glob("out/*") if path.is_file()]
