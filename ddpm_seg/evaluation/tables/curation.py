"""Selects generated samples that are good enough to train on: a rule stored beside the tables, which do not change."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.data.schema import uncertainty_of
from ddpm_seg.data.table_pictures import picture_cell, row_mask
from ddpm_seg.evaluation.tables.curation_config import CurateConfig
from ddpm_seg.json_text import json_file
from ddpm_seg.runs.parquet import DamagedFileError, open_parquet
from ddpm_seg.runs.summary import read_json
from ddpm_seg.runs.view import choose, read_view
from ddpm_seg.tasks import UNLABELLED

TABLE, FILE = "samples", "curation.json"

PUBLISHED_MOST_CERTAIN = 30
"""How many of the most certain samples the published code drops, in place of as many uncertain ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curation:
    """The stored rule: keeps samples whose uncertainty is within the limits and that have at least two classes,
    including samples drawn later."""

    config_hash: str
    """Configuration of the samples that the limits were computed from."""
    least_uncertainty: float
    most_uncertainty: float
    ignore_above: float | None
    rule: dict[str, object]
    """The options of ddpm-seg curate."""
    counts: dict[str, int]
    """Number of samples by what the rule did with them, when it was made."""


def curate(config: CurateConfig) -> Curation:
    """Computes the limits from the existing samples and writes them to `curation.json` beside the tables.

    Raises FileNotFoundError if there are no samples, ValueError if they have no labels, lack the maps that
    `ignore_above` needs, or none would be left.
    """
    output = config.samples
    columns = ["image_id", "uri", "status", "uncertainty", "classes", "config_hash"]
    configuration = choose(output, TABLE, config.config_hash)
    rows = read_view(output, TABLE, config_hash=configuration.config_hash, columns=columns)
    ok = rows.filter(pc.equal(rows["status"], "ok"))
    if ok["uncertainty"].null_count:
        raise ValueError(f"the samples at {output} have no labels: their model has no ensemble")
    if config.ignore_above is not None and not _has_maps(configuration.shards[0]):
        raise ValueError(
            f"--ignore-above needs the uncertainty of each pixel, and the samples at {output} have none: leave it out"
        )
    several = ok.filter(_of_several_classes(ok))
    uncertainty = np.sort(several["uncertainty"].to_numpy())
    certain, uncertain = _dropped(config, len(uncertainty))
    kept = uncertainty[certain : len(uncertainty) - uncertain]
    if not len(kept):
        raise ValueError(
            f"none of {len(uncertainty)} samples with several classes would be left; draw more, or drop fewer"
        )
    least, most = (float(kept[0]) if certain else 0.0), float(kept[-1])
    counts = {
        "samples": rows.num_rows,
        "errors": rows.num_rows - ok.num_rows,
        "one_class_only": ok.num_rows - several.num_rows,
        "too_certain": int((uncertainty < least).sum()),
        "too_uncertain": int((uncertainty > most).sum()),
        "kept": int(((uncertainty >= least) & (uncertainty <= most)).sum()),
    }
    rule = dataclasses.asdict(config)
    del rule["samples"], rule["config_hash"]
    found = Curation(
        config_hash=configuration.config_hash,
        least_uncertainty=least,
        most_uncertainty=most,
        ignore_above=config.ignore_above,
        rule=rule,
        counts=counts,
    )
    storage.write_bytes(storage.join(output, FILE), json_file(dataclasses.asdict(found)))
    return found


def _dropped(config: CurateConfig, samples: int) -> tuple[int, int]:
    """How many of the most certain and of the most uncertain samples to drop.

    The published code keeps `sorted[30 : 30 - n]`: its share of n samples includes the most certain ones. Where n is 30
    or less that slice is empty, and here they are dropped beside the share.
    """
    certain = PUBLISHED_MOST_CERTAIN if config.published_filter else 0
    share = int(samples * config.drop_uncertain)
    return certain, share - certain if share > certain else share


def read_curation(output: str) -> Curation | None:
    """The rule beside the tables, or None. Raises DamagedFileError if it cannot be read."""
    uri = storage.join(storage.place(output), FILE)
    if not storage.exists(uri):
        return None
    remedy = "make it again with ddpm-seg curate, or delete it to take all samples"
    try:
        record = read_json(uri)
        limits = record["least_uncertainty"], record["most_uncertainty"], record["ignore_above"] or 0.0
        if not all(isinstance(limit, int | float) for limit in limits) or not isinstance(record["config_hash"], str):
            raise DamagedFileError(uri, "it is not a rule that ddpm-seg curate wrote")
        return Curation(**record)
    except DamagedFileError as error:
        raise DamagedFileError(uri, error.reason, remedy) from error
    except (KeyError, TypeError) as error:
        raise DamagedFileError(uri, f"it is not a rule that ddpm-seg curate wrote ({error})", remedy) from error


def read_samples(
    output: str, *, config_hash: str | None = None, columns: Sequence[str] | None = None, curated: bool = True
) -> pa.Table:
    """The generated samples under `output` that the rule beside them keeps, sorted by seed and number.

    Pixels that the rule ignores are 255 in `mask`. With `curated` False, or without a rule, all samples as they were
    drawn, including errors. If there are samples of several models or options, returns those of `config_hash`; by
    default the rule's, or without a rule the newest run's (a warning in the log then names the others).
    `columns=["uri", "classes"]` avoids reading the pictures. Raises FileNotFoundError if there are no samples,
    ValueError for an unknown column, an unreadable file, or a rule made for another configuration.
    """
    output = storage.place(output)
    curation = read_curation(output) if curated else None
    if curation is None:
        return read_view(output, TABLE, config_hash=config_hash, columns=columns)
    if config_hash not in (None, curation.config_hash):
        rule = storage.join(output, FILE)
        raise ValueError(
            f"the rule at {rule} is for the samples of {curation.config_hash}, not {config_hash}; "
            f"run ddpm-seg curate with --config-hash {config_hash}"
        )
    wanted = ["image_id", "uri", "status", "uncertainty", "classes"]
    rows = read_view(output, TABLE, config_hash=curation.config_hash, columns=wanted)
    kept: list[Any] = rows.filter(keeps(rows, curation))["image_id"].to_pylist()
    with_map = columns is not None and "mask" in columns and curation.ignore_above is not None
    asked = [*columns, *(["uncertainty_map", "width", "height"] if with_map else [])] if columns is not None else None
    asked = list(dict.fromkeys([*asked, "image_id", "uri"])) if asked is not None else None
    table = read_view(output, TABLE, config_hash=curation.config_hash, columns=asked, image_ids=kept)
    table = ignore_pixels(table, curation)
    return table.select(list(columns)) if columns is not None else table


def keeps(rows: pa.Table, curation: Curation) -> pa.ChunkedArray[Any]:
    """Whether the rule keeps each of `rows` (`status`, `uncertainty`, `classes`), bool."""
    within = pc.and_(
        pc.greater_equal(rows["uncertainty"], curation.least_uncertainty),
        pc.less_equal(rows["uncertainty"], curation.most_uncertainty),
    )
    good = pc.and_(pc.equal(rows["status"], "ok"), pc.and_(within, _of_several_classes(rows)))
    return pc.fill_null(good, False)


def ignore_pixels(rows: pa.Table, curation: Curation) -> pa.Table:
    """`rows` with 255 in `mask` where `uncertainty_map` exceeds the rule's limit; unchanged if the rule has none."""
    if curation.ignore_above is None or "mask" not in rows.column_names:
        return rows
    masks = []
    for row in rows.select(["uri", "width", "height", "mask", "uncertainty_map"]).to_pylist():
        pixels, doubt = row_mask(row), row_mask(row, column="uncertainty_map")
        pixels[uncertainty_of(doubt, rows.schema) > curation.ignore_above] = UNLABELLED
        masks.append(picture_cell(pixels))
    place = rows.column_names.index("mask")
    return rows.set_column(place, rows.schema.field(place), pa.array(masks, rows.schema.field(place).type))


def _has_maps(shard: str) -> bool:
    """Whether the samples of this file have uncertainty maps: published ones have none. Reads no picture."""
    with open_parquet(shard) as file:
        maps = file.read(columns=["uncertainty_map.path"])["uncertainty_map"]
    return maps.null_count < len(maps)


def _of_several_classes(rows: pa.Table) -> pa.ChunkedArray[Any]:
    return pc.greater(pc.fill_null(pc.list_value_length(rows["classes"]), 0), 1)
