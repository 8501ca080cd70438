"""Undisturbed runs, to compare the disturbed ones with."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import read_header
from ddpm_seg.runs.parquet import decode
from tests.chaos.comparison import Rows, compare, masks_of, read_manifests, read_rows
from tests.chaos.journal import chunks_of_run
from tests.chaos.place import Place

PATIENCE_SECONDS = 600.0
# At least this many masks of two models must differ, or a mix of them would not be noticed.
DIFFERENT_MASKS = 0.9

_CHUNKS = re.compile(r"/_chunks/([^/]+)/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """An undisturbed run under `output`, and the name of the folder in _chunks/ that its chunks had."""

    output: str
    rows: Rows
    seconds: float
    plan: list[tuple[int, int]]
    chunk_folder: str


class References:
    """The undisturbed runs of a place. Each is made on first use.

    Use them before the first attempt of a trial, because making one resets the place's journal.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._made: dict[tuple[str, ...], Reference] = {}
        self._nights: tuple[str, Reference] | None = None

    def of(self, *flags: str) -> Reference:
        """Runs the job with these additional flags. Raises RuntimeError if even the undisturbed job fails."""
        flags = tuple(flag.format(prefix=self._place.prefix) for flag in flags)
        if flags not in self._made:
            self._made[flags] = self._run(self._place.new_output(), flags, runs=1)
            self._check_model(self._made[flags], flags)
        return self._made[flags]

    def other_model(self) -> Reference:
        """The run with another model, whose masks differ."""
        own, other = self.of(), self.of(f"--model={self._place.prefix}/model-other")
        masks, others = masks_of(own.rows), masks_of(other.rows)
        different = [masks[name] != others[name] for name in masks if name in others]
        if sum(different) < DIFFERENT_MASKS * len(different):
            raise RuntimeError(f"only {sum(different)} of {len(different)} masks of the two models differ")
        return other

    def two_nights(self) -> tuple[str, Reference]:
        """An output in which a first night has run, and its state after a second one. Copy it, do not change it."""
        if self._nights is None:
            place, subject = self._place, self._place.subject
            first, both = place.new_output(), place.new_output()
            self._run(first, (subject.count_flag.format(subject.first_night),), runs=1)
            copy_files(first, both)
            self._nights = first, self._run(both, (), runs=2)
        return self._nights

    def masks_of_other_models(self) -> list[dict[str, bytes]]:
        """For each model except the job's own that a reference was made with: its masks by image_id."""
        return [masks_of(made.rows) for flags, made in self._made.items() if any("--model=" in flag for flag in flags)]

    def _run(self, output: str, flags: tuple[str, ...], runs: int) -> Reference:
        place, start, log = self._place, time.monotonic(), self._place.folder / "reference.log"
        place.forget()
        with place.job(output, log, flags) as job:
            code = job.wait(PATIENCE_SECONDS)
        if code:
            raise RuntimeError(f"the undisturbed job ended with {code}:\n{log.read_text(errors='replace')[-3000:]}")
        seconds, rows = time.monotonic() - start, read_rows(output, place.subject.table)
        if problems := compare(rows, output, place.subject, runs=runs).problems:
            raise RuntimeError(f"the undisturbed job's output: {problems}")
        plan = chunks_of_run(place.events(), output)
        chunks = [match[1] for event in place.events() if (match := _CHUNKS.search(event.subject))]
        place.forget()
        return Reference(
            output=output,
            rows=rows,
            seconds=seconds,
            plan=plan,
            chunk_folder=chunks[0],
        )

    def _check_model(self, made: Reference, flags: tuple[str, ...]) -> None:
        """Checks that an undisturbed run's rows name the model that is at the job's --model."""
        own = f"{self._place.prefix}/model"
        model = next((flag.partition("=")[2] for flag in flags if flag.startswith("--model=")), own)
        expected = read_header(model).model_id
        if named := {row["model_id"] for row in made.rows.values()} - {expected}:
            raise RuntimeError(f"the undisturbed job's rows name the models {named}, not {expected}")


def chunks_of(made: Reference, place: Place) -> Iterator[tuple[int, int, pa.Table]]:
    """(shard, chunk, rows) of a run, as its chunk files had them."""
    (manifest,) = read_manifests(made.output)
    sizes = Counter(zip(manifest["shard"].to_pylist(), manifest["chunk"].to_pylist(), strict=True))
    shards = {
        int(file.uri[-13:-8]): decode(storage.read_bytes(file.uri))
        for file in storage.list_files(storage.join(made.output, place.subject.table))
    }
    starts = dict.fromkeys(shards, 0)
    for shard, chunk in made.plan:
        yield shard, chunk, shards[shard].slice(starts[shard], sizes[shard, chunk])
        starts[shard] += sizes[shard, chunk]


def copy_files(source: str, target: str) -> list[str]:
    """Copies every file under a prefix to another one, replacing existing files; returns the URIs of the copies."""
    copied = [file.uri for file in storage.list_files(source)]
    for uri in copied:
        storage.write_bytes(target + uri.removeprefix(source), storage.read_bytes(uri))
    return copied
