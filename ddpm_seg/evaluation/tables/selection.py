"""Selects rows of labelled images by uncertainty and class, without reading any mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.inputs.verdicts import Chosen
from ddpm_seg.data.schema import DOMAIN_DISTANCE, METADATA_KEY, classes_of, task_of
from ddpm_seg.runs.parquet import DamagedFileError, open_parquet, require_columns
from ddpm_seg.runs.view import Configuration, choose, current_rows
from ddpm_seg.tasks import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The selected rows, and counts of the rest."""

    configuration: Configuration
    """The configuration that the labels are from."""
    shards: list[tuple[str, NDArray[np.int64]]]
    """URI and ascending row numbers of each shard that has selected rows."""
    task: Task | None
    """None if the rows have no masks: samples of a model without an ensemble."""
    images: int
    errors: int
    """Current rows without a mask."""
    others: int
    """Labelled images that were not selected."""
    outside: int
    """Those of the others that were left out only for their domain distance."""


def select(
    output: str,
    table: str = "labels",
    *,
    config_hash: str | None = None,
    only: Chosen | None = None,
    classes: Sequence[str] = (),
    min_uncertainty: float | None = None,
    max_uncertainty: float | None = None,
    most_uncertain: int | None = None,
    max_domain_distance: float | None = None,
) -> Selection:
    """Selects from the current rows of `table` those that `only` names (None: all), that have at least one of `classes`
    (empty: any), whose uncertainty (nats) is within the bounds, whose domain distance is at most `max_domain_distance`
    or not known and, of these, the `most_uncertain`.

    Raises FileNotFoundError if there are no rows, ValueError for a class that the task does not have, or if the table
    has none of the images of `only`.
    """
    configuration = choose(output, table, config_hash)
    shards = current_rows(output, table, config_hash=configuration.config_hash)
    task = None if table == "samples" and not _has_task(shards[0][0]) else read_task(shards[0][0])
    if task is None and (classes or (min_uncertainty, max_uncertainty, most_uncertain) != (None, None, None)):
        raise ValueError(
            f"the samples at {output} have no masks to select by, because their model has no ensemble: leave out "
            "--classes and the limits of uncertainty"
        )
    limits = _Limits(
        only=only,
        class_ids=[_class_id(name, task) for name in classes] if task else [],
        uncertainty=(min_uncertainty, max_uncertainty) if task else None,
        max_domain_distance=max_domain_distance,
    )
    read = [limits.selected(uri, current) for uri, current in shards]
    if only is not None:
        only.check_found(set().union(*(one.named for one in read)), f"the table {table} at {storage.redact(output)}")
    wanted = [one.wanted for one in read]
    if most_uncertain is not None:
        wanted = _most(wanted, [one.uncertainty for one in read], most_uncertain)
    found = [(uri, np.flatnonzero(rows)) for (uri, _), rows in zip(shards, wanted, strict=True)]
    images, count = sum(one.images for one in read), sum(len(rows) for _, rows in found)
    return Selection(
        configuration=configuration,
        shards=[(uri, rows) for uri, rows in found if len(rows)],
        task=task,
        images=count,
        errors=sum(one.errors for one in read),
        others=images - count,
        outside=sum(one.outside for one in read),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _ShardRows:
    """One shard's rows, and its part of the counts of `Selection`."""

    wanted: NDArray[np.bool_]
    uncertainty: NDArray[np.float64]
    named: set[str]
    """URIs of those that the caller named."""
    images: int
    errors: int
    outside: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Limits:
    """What a row must fulfil by itself, whatever the others are."""

    only: Chosen | None
    class_ids: Sequence[int]
    uncertainty: tuple[float | None, float | None] | None
    """None for rows without masks, which have none."""
    max_domain_distance: float | None

    def selected(self, uri: str, current: NDArray[np.bool_]) -> _ShardRows:
        """Which of the `current` rows of the shard at `uri` are wanted."""
        rows = _read(uri, self.only)
        labelled: NDArray[np.bool_] = current & np.array(
            [status == "ok" for status in rows["status"].to_pylist()], bool
        )
        doubt = rows["uncertainty"].to_numpy(zero_copy_only=False).astype(np.float64)
        wanted, named = labelled, set[str]()
        if self.only is not None:
            chosen = pc.is_in(rows["uri"], value_set=pa.array(self.only.names, pa.string())).to_numpy()
            uris: list[Any] = rows["uri"].filter(pa.array(chosen)).to_pylist()
            wanted, named = labelled & chosen, set(uris)
        if self.uncertainty is not None:
            wanted = wanted & _within(doubt, *self.uncertainty) & _has_one_of(rows, self.class_ids)
        near: NDArray[np.bool_] = np.full(len(wanted), True)
        if self.max_domain_distance is not None:
            near = ~(_distances(rows) > self.max_domain_distance)  # not known counts as near
        return _ShardRows(
            wanted=wanted & near,
            uncertainty=doubt,
            named=named,
            images=int(labelled.sum()),
            errors=int((current & ~labelled).sum()),
            outside=int((wanted & ~near).sum()),
        )


def read_task(shard: str) -> Task:
    """The task of a published shard. Raises DamagedFileError if the file does not state it."""
    with open_parquet(shard) as file:
        try:
            return task_of(file.schema_arrow)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DamagedFileError(shard, error) from error


def _has_task(shard: str) -> bool:
    with open_parquet(shard) as file:
        return METADATA_KEY in (file.schema_arrow.metadata or {})


def _class_id(name: str, task: Task) -> int:
    if name not in task.class_names:
        raise ValueError(f"--classes {name!r}: {task.name} has the classes {', '.join(map(repr, task.class_names))}")
    return task.class_names.index(name)


def _read(uri: str, only: Chosen | None) -> pa.Table:
    """The small columns that rows are selected by; `domain_distance` where the shard has it."""
    wanted = ["status", "uncertainty", "classes", *(["uri"] if only else [])]
    with open_parquet(uri) as file:
        require_columns(uri, file.schema_arrow, wanted)
        return file.read(columns=[*wanted, *({DOMAIN_DISTANCE.name} & set(file.schema_arrow.names))])


def _distances(rows: pa.Table) -> NDArray[np.float64]:
    """The column `domain_distance`, NaN where it is not known."""
    if DOMAIN_DISTANCE.name not in rows.column_names:
        return np.full(rows.num_rows, np.nan)
    return rows[DOMAIN_DISTANCE.name].to_numpy(zero_copy_only=False).astype(np.float64)


def _within(doubt: NDArray[Any], least: float | None, most: float | None) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):  # rows without a mask have NaN, which no bounds include
        return (doubt >= (-np.inf if least is None else least)) & (doubt <= (np.inf if most is None else most))


def _has_one_of(rows: pa.Table, class_ids: Sequence[int]) -> NDArray[np.bool_]:
    found = np.full(rows.num_rows, not class_ids)
    if class_ids:
        classes = classes_of(rows)
        ids = pc.list_flatten(classes).field("class_id").to_numpy(zero_copy_only=False)
        found[classes.value_parent_indices().to_numpy()[np.isin(ids, class_ids)]] = True
    return found


def _most(wanted: list[NDArray[Any]], doubts: list[NDArray[Any]], count: int) -> list[NDArray[Any]]:
    """Picks the `count` most uncertain of the `wanted` rows of all shards; ties go to the first."""
    rows, doubt = np.concatenate(wanted), np.concatenate(doubts)
    candidates = np.flatnonzero(rows)
    order = candidates[np.argsort(-doubt[candidates], kind="stable")][:count]
    kept = np.zeros(len(rows), bool)
    kept[order] = True
    return np.split(kept, np.cumsum([len(each) for each in wanted])[:-1])
