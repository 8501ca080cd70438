"""The READMEs: links and anchors lead somewhere, and the flags in their commands exist."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from ddpm_seg.command_line.console import JOBS, _options

ROOT = Path(__file__).parents[1]
READMES = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob(".github/*.md"))
    if path.is_file()
)
# Flags of `ray job submit`, and what every job takes beside its own.
OTHERS = {"--address", "--working-dir", "--no-wait", "--follow", "--entrypoint-num-gpus", "--config", "--help"}


def prose(path: Path) -> str:
    """The text outside of code blocks."""
    return re.sub(r"^```.*?^```", "", (ROOT / path).read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The anchors of a file's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("readme", READMES, ids=str)
def test_links_and_anchors_resolve(readme: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(readme))
    for link in links:
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / readme.parent / name).resolve() if name else ROOT / readme
        assert target.exists(), f"{readme}: {link}"
        assert target.is_relative_to(ROOT), f"{readme}: {link}"
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT)), f"{readme}: {link}"


def commands(path: Path) -> list[tuple[str, list[str]]]:
    """Every call of a job in a file's shell blocks and inline code: its name and its words."""
    text = (ROOT / path).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`((?:ddpm-seg|python -m jobs\.)[^`]+)`", prose(path))
    found = []
    for line in lines:
        for match in re.finditer(r"(?:ddpm-seg |python -m jobs\.)([\w-]+)(.*)", line):
            words = match[2].partition(" #")[0].replace("…", " ").replace('"', " ").replace("'", " ")
            found.append((match[1].replace("-", "_"), shlex.split(words.split("&&")[0].split(">>")[0])))
    return found


@pytest.mark.parametrize("readme", READMES, ids=str)
def test_jobs_and_flags_in_commands_exist(readme: Path) -> None:
    for job, words in commands(readme):
        if job in ("JOB", "NAME", "completion") or job.startswith("_"):
            continue
        assert job in JOBS, f"{readme}: {job}"
        known = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(_options(job))}
        known |= {flag.replace("--", "--no-", 1) for flag in known}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        # The flags of a published project, within --model-flags.
        assert {flag for flag in used if "_" not in flag} <= known | OTHERS, f"{readme}: {job} {used - known}"


def test_the_commands_are_found() -> None:
    found = {job for readme in READMES for job, _ in commands(readme)}
    assert set(JOBS) <= found
    assert len(READMES) >= 4


def test_the_first_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_each_long_page_begins_with_its_contents() -> None:
    for readme in READMES:
        text = (ROOT / readme).read_text()
        if readme.name == "README.md" and len(text.splitlines()) > 100 and readme.parent != Path():
            assert "**Contents**" in "\n".join(text.splitlines()[:20]), readme
