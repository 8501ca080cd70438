"""Undisturbed runs, with which disturbed ones are compared."""

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
from tests.chaos.place import Place

PATIENCE_SECONDS = 600.0
# Of two models' masks, so many must differ, or a mix of them would not be seen.
DIFFERENT_MASKS = 0.9

_CHUNKS = re.compile(r"/_chunks/([^/]+)/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """An undisturbed run, which stands under `output`. Its chunks stood in this folder of _chunks/."""

    output: str
    rows: Rows
    seconds: float
    plan: list[tuple[int, int]]
    chunk_folder: str


class References:
    """The undisturbed runs of a place, each made when it is first asked for: before the first attempt of a trial, for
    the place's journal begins anew."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._made: dict[tuple[str, ...], Reference] = {}
        self._nights: tuple[str, Reference] | None = None

    def of(self, *flags: str) -> Reference:
        """The job with these flags besides its own. Raises RuntimeError where not even that works."""
        flags = tuple(flag.format(prefix=self._place.prefix) for flag in flags)
        if flags not in self._made:
            self._made[flags] = self._run(self._place.new_output(), flags, runs=1)
            self._check_model(self._made[flags], flags)
        return self._made[flags]

    def other_model(self) -> Reference:
        """The job with another model, whose masks differ."""
        own, other = self.of(), self.of(f"--model={self._place.prefix}/model-other")
        masks, others = masks_of(own.rows), masks_of(other.rows)
        different = [masks[name] != others[name] for name in masks if name in others]
        if sum(different) < DIFFERENT_MASKS * len(different):
            raise RuntimeError(f"only {sum(different)} of {len(different)} masks of the two models differ")
        return other

    def two_nights(self) -> tuple[str, Reference]:
        """An output in which a first night has run, and what it is after a second one; to be copied, not changed."""
        if self._nights is None:
            place, subject = self._place, self._place.subject
            first, both = place.new_output(), place.new_output()
            self._run(first, (subject.count_flag.format(subject.first_night),), runs=1)
            copy_files(first, both)
            self._nights = first, self._run(both, (), runs=2)
        return self._nights

    def masks_of_other_models(self) -> list[dict[str, bytes]]:
        """Masks by image_id of each model but the job's own that a reference was made with."""
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
        chunks = [match[1] for event in place.events() if (match := _CHUNKS.search(event.subject))]
        place.forget()
        plan = read_manifests(output)[-1].group_by(["shard", "chunk"]).aggregate([])
        return Reference(
            output=output,
            rows=rows,
            seconds=seconds,
            plan=sorted(zip(plan["shard"].to_pylist(), plan["chunk"].to_pylist(), strict=True)),
            chunk_folder=chunks[0],
        )

    def _check_model(self, made: Reference, flags: tuple[str, ...]) -> None:
        """That an undisturbed run's rows name the model that stands where the job was told to find it."""
        own = f"{self._place.prefix}/model"
        model = next((flag.partition("=")[2] for flag in flags if flag.startswith("--model=")), own)
        expected = read_header(model).model_id
        if named := {row["model_id"] for row in made.rows.values()} - {expected}:
            raise RuntimeError(f"the undisturbed job's rows name the models {named}, not {expected}")


def chunks_of(made: Reference, place: Place) -> Iterator[tuple[int, int, pa.Table]]:
    """(shard, chunk, its rows) of a run, as its chunks' files had them."""
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
    """Copies every file under a prefix, over what stands there; the URIs that were copied."""
    copied = [file.uri for file in storage.list_files(source)]
    for uri in copied:
        storage.write_bytes(target + uri.removeprefix(source), storage.read_bytes(uri))
    return copied
