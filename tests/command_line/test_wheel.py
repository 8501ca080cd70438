"""What pip installs: everything that the package reads, so that the command works in any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RUN = "import sys; from ddpm_seg.command_line.console import main; sys.argv[0] = 'ddpm-seg'; sys.exit(main())"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "ddpm_seg", source / "ddpm_seg", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet", "-w", ".."]
    subprocess.run(pip, cwd=source, check=True, timeout=300)
    (wheel,) = folder.glob("ddpm_seg-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    return folder / "installed"


def test_the_wheel_has_every_file_of_the_package(installed: Path) -> None:
    files = {path.relative_to(ROOT) for path in (ROOT / "ddpm_seg").rglob("*") if path.is_file()}
    wanted = {file for file in files if "__pycache__" not in file.parts and file.suffix != ".md"}
    assert {file for file in wanted if not (installed / file).is_file()} == set()


def test_it_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", RUN, "label", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "new        32 in" in done.stdout
    assert list(tmp_path.iterdir()) == []
