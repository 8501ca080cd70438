"""The arrows between packages run one way: `lint-imports` says so of this tree, and sees each that would run back."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RAY_INTERNALS = ROOT / "ddpm_seg" / "cluster" / "ray_internals.py"

# Contract, importer, imported. The first eight are what the code did before the packages were put in order.
ARROWS = [
    ("layers", "ddpm_seg.evaluation.scores.quality", "ddpm_seg.training.network.pretrain"),
    ("layers", "ddpm_seg.training.ensemble.feature_actors", "ddpm_seg.pipeline.stream"),
    ("layers", "ddpm_seg.cluster.training_workers", "ddpm_seg.pipeline.stream"),
    ("layers", "ddpm_seg.pipeline.execute", "ddpm_seg.training.ensemble.few_shot"),
    ("cycles", "ddpm_seg.data.annotations.pair", "ddpm_seg.data.annotations.forms.coco"),
    ("cycles", "ddpm_seg.pipeline.execute", "ddpm_seg.pipeline.label.stages"),
    ("storage", "ddpm_seg.runs.commit", "ddpm_seg.storage.local"),
    ("ray", "ddpm_seg.training.ensemble.feature_actors", "ray"),
    ("layers", "ddpm_seg.model.networks.diffusion.unet", "ddpm_seg.data.canvas"),
    ("layers", "ddpm_seg.data.canvas", "ddpm_seg.runs.layout"),
    ("layers", "ddpm_seg.runs.commit", "ddpm_seg.model.bundle.ensemble_bundle"),
    ("layers", "ddpm_seg.cluster.nodes", "ddpm_seg.runs.commit"),
    ("layers", "ddpm_seg.storage.files", "ddpm_seg.cluster.nodes"),
    ("layers", "ddpm_seg.pipeline.label.job", "ddpm_seg.studies.evaluate"),
    ("layers", "ddpm_seg.studies.evaluate", "ddpm_seg.benchmark.run"),
    ("jobs", "ddpm_seg.pipeline.label.job", "jobs.label"),
    ("torch", "ddpm_seg.runs.view", "torch"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code and its contract, to be changed."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("ddpm_seg", "jobs"):
        ignore = shutil.ignore_patterns("assets", "__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path, *options: str) -> tuple[int, str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [*command, *options], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_arrows_of_this_tree_run_one_way(tree: Path) -> None:
    status, said = lint(tree)
    assert status == 0, said
    assert "0 broken" in said


@pytest.mark.parametrize(("contract", "importer", "imported"), ARROWS)
def test_an_arrow_that_runs_back_is_seen(tree: Path, contract: str, importer: str, imported: str) -> None:
    file = tree / (importer.replace(".", "/") + ".py")
    before = file.read_text()
    try:
        # Inside a function, where such an import hides.
        file.write_text(f"{before}\n\ndef _late() -> None:\n    import {imported}\n")
        status, said = lint(tree, "--contract", contract)
    finally:
        file.write_text(before)
    assert status == 1, said
    assert "1 broken" in said
    assert contract == "cycles" or imported in said  # of a circle any link may be named


def test_a_new_package_has_to_be_given_its_place(tree: Path) -> None:
    package = tree / "ddpm_seg" / "novelty"
    package.mkdir()
    try:
        (package / "__init__.py").touch()
        status, said = lint(tree, "--contract", "layers")
    finally:
        shutil.rmtree(package)
    assert status == 1
    assert "novelty" in said


def private_names(source: str) -> Iterator[str]:
    """Ray's modules and loggers in `source` whose names say that they may change without notice."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = node.value.split()[:1]
        for name in names:
            first, *others = name.split(".")
            if first == "ray" and any(part.startswith(("_", "internal_")) for part in others):
                yield name


@pytest.mark.parametrize(
    "source",
    [
        "import ray._private.services",
        "from ray.data._internal.execution import backpressure_policy",
        "from ray.experimental import internal_kv",
        "node = ray._private.worker._global_node",
        'logging.getLogger("ray.data._internal.progress")',
    ],
)
def test_a_private_name_of_ray_is_seen(source: str) -> None:
    assert list(private_names(source))


def test_private_names_of_ray_are_in_one_file() -> None:
    files = [file for package in ("ddpm_seg", "jobs") for file in (ROOT / package).rglob("*.py")]
    assert [file for file in files if list(private_names(file.read_text()))] == [RAY_INTERNALS]
