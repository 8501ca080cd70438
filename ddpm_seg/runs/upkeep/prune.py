"""Finds what an output no longer needs, older configurations and what runs left behind, and deletes it on request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.runs.commit import SET_ASIDE
from ddpm_seg.runs.layout import RunLayout, run_number
from ddpm_seg.runs.ledger import MANIFEST, KnownRun, all_runs, find_runs, leftovers
from ddpm_seg.runs.view import choose, configurations

TABLE, DERIVED = "labels", "class_stats"
_CONFIGURATION = re.compile(r"/(labels|class_stats|samples|sample_class_stats)/config=([^/]+)/run=[^/]+/[^/]+$")
_RUN_FOLDER = re.compile(r"/runs/run-\d+(?=/)")
"""At the start of what follows an output's own name, which may look like this too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Removable:
    """Files that belong together and are no longer needed."""

    title: str
    places: tuple[str, ...]
    """URIs of files and folders, in the order in which to delete them: what is left after a kill can be found again."""
    files: int
    size_bytes: int
    config_hash: str | None = None
    """The configuration that they are, or None for leftovers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruning:
    """What of an output can go and what stays."""

    output: str
    kept: str
    """The configuration that stays."""
    unfinished: tuple[str, ...]
    """Configurations that stay because one of their runs is not finished."""
    removable: tuple[Removable, ...]


def find_removable(output: str, config_hash: str | None = None) -> Pruning:
    """Everything that can go from an output of jobs.label: its configurations other than `config_hash` (by default
    that of the newest run), and what dead workers left. Deletes nothing.

    Samples in the same output stay. Raises FileNotFoundError if there are no labels, or none of `config_hash`, and
    DamagedFileError for a manifest that cannot be read.
    """
    output = storage.place(output)
    newest = configurations(output, TABLE)[0].config_hash
    kept = newest if config_hash is None else choose(output, TABLE, config_hash).config_hash
    files = list(storage.list_files(output))
    runs = all_runs(output, TABLE)
    by_table: dict[str, set[str]] = {}
    for match in filter(None, (_CONFIGURATION.search(file.uri) for file in files)):
        by_table.setdefault(match[1], set()).add(match[2])
    drawn = by_table.get("samples", set()) | by_table.get("sample_class_stats", set())
    labelled = by_table.get(TABLE, set()) | by_table.get(DERIVED, set()) | {run.info.config_hash for run in runs}
    old = labelled - drawn - {kept}
    unfinished = {run.info.config_hash for run in runs if not run.finished}
    found = [_configuration(output, name, runs, files) for name in sorted(old - unfinished)]
    found += [
        _measured("heartbeats and chunks of finished runs", [one for kind in leftovers(output) for one in kind], files),
        _measured("shards that were set aside", [storage.join(output, SET_ASIDE)], files),
        _measured("folders of runs without a plan", _without_plan(output, files), files),
    ]
    return Pruning(
        output=output,
        kept=kept,
        unfinished=tuple(sorted(old & unfinished)),
        removable=tuple(one for one in found if one.files),
    )


def remove(pruning: Pruning) -> None:
    """Deletes what `find_removable` found.

    Raises ValueError, before it deletes anything of a configuration, if one of its runs has begun meanwhile.
    """
    for one in pruning.removable:
        runs = find_runs(pruning.output, TABLE, one.config_hash) if one.config_hash is not None else []
        if begun := [run.layout.run_id for run in runs if not run.finished]:
            raise ValueError(f"{begun[0]} of configuration {one.config_hash} has begun meanwhile: it was not deleted")
        for place in one.places:
            storage.delete(place)


def _configuration(
    output: str, config_hash: str, runs: Iterable[KnownRun], files: Sequence[storage.FileInfo]
) -> Removable:
    layout = RunLayout(output=output, table=TABLE, config_hash=config_hash, run_id="")
    own = [run.layout for run in runs if run.info.config_hash == config_hash]
    # Each manifest before its folder: without its report, a run with a manifest would be taken up again.
    places = [layout.configuration(DERIVED), layout.configuration()]
    places += [place for run in own for place in (run.manifest, run.folder)]
    title = f"configuration {config_hash}, {len(own)} run{'' if len(own) == 1 else 's'}"
    return _measured(title, places, files, config_hash)


def _without_plan(output: str, files: Iterable[storage.FileInfo]) -> list[str]:
    """Folders of runs that have neither manifest nor shard: a removal that was killed leaves them."""
    start = len(output.rstrip("/"))
    matches = (_RUN_FOLDER.match(file.uri, start) for file in files)
    folders = {match[0]: match.string[: match.end()] for match in matches if match}
    known = {run_number(file.uri) for file in files if file.uri.endswith(MANIFEST) or _CONFIGURATION.search(file.uri)}
    return sorted(folder for folder in folders.values() if run_number(f"{folder}/x") not in known)


def _measured(
    title: str, places: Sequence[str], files: Iterable[storage.FileInfo], config_hash: str | None = None
) -> Removable:
    folders, exact = tuple(f"{place}/" for place in places), set(places)
    own = [file for file in files if file.uri in exact or (folders and file.uri.startswith(folders))]
    return Removable(
        title=title,
        places=tuple(places),
        files=len(own),
        size_bytes=sum(file.size_bytes or 0 for file in own),
        config_hash=config_hash,
    )
