"""Scores models of a few annotated images on corrupted ones: who is robust, and against what."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ddpm_seg import storage
from ddpm_seg.cluster.training_workers import free_gpus
from ddpm_seg.data.annotations.task_file import find_task
from ddpm_seg.errors import work_began
from ddpm_seg.studies.corruptions.cells import Cell, Corruption, Scorer, SplitScore, stored_cell, write_cell
from ddpm_seg.studies.corruptions.config import CLEAN, CorruptionsConfig, name_of
from ddpm_seg.studies.corruptions.rows import Row, rows_of
from ddpm_seg.training.rivals.supervised import SupervisedConfig

if TYPE_CHECKING:
    from ddpm_seg.cluster.nodes import Allocation

logger = logging.getLogger(__name__)


def run_corruptions(
    config: CorruptionsConfig,
    *,
    supervised: SupervisedConfig = SupervisedConfig(),  # noqa: B008  frozen
) -> list[Cell]:
    """Trains and scores the models of `config`; writes each cell as soon as it is known.

    Models and cells from an earlier call are reused if images, model and settings are the same, and replaced otherwise.
    Before any training, raises ValueError (`BundleError`, `AnnotationError`) or OSError for what the user can correct,
    actors that do not fit on the cluster among it.
    """
    rows = rows_of(config, find_task(config.task), supervised)
    storage.check_writable(config.output)
    stored = [_stored(config, row) for row in rows]
    complete = all(cell is not None for cells in stored for cell in cells.values())
    allocation = None if complete else _allocation(config)
    with work_began():
        found = (_cells(config, row, cells, allocation) for row, cells in zip(rows, stored, strict=True))
        return [cell for cells in found for cell in cells]


def corruptions_of(config: CorruptionsConfig) -> list[Corruption]:
    """What each model is scored on, the clean images first."""
    whole = [Corruption(kind=name, severity=0) for name in (CLEAN, *map(name_of, config.others))]
    return whole + [
        Corruption(kind=kind, severity=level) for kind in config.chosen_kinds for level in config.severities
    ]


def _uri(config: CorruptionsConfig, row: Row, one: Corruption) -> str:
    return storage.join(config.output, row.name, f"{one.kind}-{one.severity}.json")


def _stored(config: CorruptionsConfig, row: Row) -> dict[Corruption, Cell | None]:
    """The cells of one model, in the order of `corruptions_of`; None for those that are not there."""
    return {one: stored_cell(_uri(config, row, one), row.settings(one)) for one in corruptions_of(config)}


def _allocation(config: CorruptionsConfig) -> Allocation | None:
    """Where the actors go; None to work in this process. Raises ValueError for a cluster that has no room for them."""
    actors = free_gpus() if config.num_actors is None else config.num_actors
    if actors == 0:
        return None
    from ddpm_seg.cluster.nodes import room_for  # Ray takes seconds to import

    return room_for(actors, [config.output])


def _cells(
    config: CorruptionsConfig, row: Row, cells: dict[Corruption, Cell | None], allocation: Allocation | None
) -> list[Cell]:
    """All cells of one model. Trains and scores what is None in `cells`."""
    missing = [one for one, cell in cells.items() if cell is None]
    if missing:
        models = row.models(config.output)
        for split, model in zip(row.splits, models, strict=True):
            logger.info("%s on %s (%d images)", row.name, split.name, len(split.train))
            row.recipe.train(split, model)
        for one, scores in _scored(row, models, missing, allocation):
            found = [SplitScore(split=split.name, **score) for split, score in zip(row.splits, scores, strict=True)]
            settings = row.settings(one)
            cell = Cell(model=row.name, kind=one.kind, severity=one.severity, settings=settings, splits=found)
            write_cell(_uri(config, row, one), cell)
            logger.info("%s, %s %d: mean IoU %.4f", row.name, one.kind, one.severity, cell.miou)
            cells[one] = cell
    return [cell for cell in cells.values() if cell is not None]


def _scored(
    row: Row, models: Sequence[str], missing: Sequence[Corruption], allocation: Allocation | None
) -> Iterator[tuple[Corruption, list[dict[str, Any]]]]:
    """The scores of each split under each corruption that is missing, as they are known: made here or on actors."""
    arguments: dict[str, Any] = {"load": row.recipe.loader(models), "tests": row.tests(), "task": row.task}
    if allocation is None:
        scorer = Scorer(**arguments)
        for one in missing:
            yield one, scorer.scores(one)
        return
    from ddpm_seg.cluster.resident_actors import map_on_actors  # Ray takes seconds to import

    asked = [{"kind": one.kind, "severity": one.severity} for one in missing]
    arguments["threads"] = allocation.threads
    for found in map_on_actors(asked, Scorer, arguments, allocation, what="corruptions"):
        yield Corruption(kind=found["kind"], severity=int(found["severity"])), json.loads(found["scores"])
