"""The report page of a run: `runs/<run_id>/report.html`, a single file without dependencies."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.domain import OUTSIDE, WARN_SHARE
from ddpm_seg.data.overlay import css_colours
from ddpm_seg.data.table_pictures import row_image
from ddpm_seg.durations import duration
from ddpm_seg.evaluation.pages.contact_sheet import Fetch, Tile, fetch_again, make_tiles, plain_tile
from ddpm_seg.evaluation.pages.heat import heat_maps
from ddpm_seg.evaluation.pages.page import count, review_script, short, template
from ddpm_seg.evaluation.pages.report_words import commands, heading
from ddpm_seg.evaluation.tables.drift import describe, earlier_statistics, find_drift, statistics_of
from ddpm_seg.evaluation.tables.totals import LabelledRow, Totals, first_rows, read_pictures, read_totals
from ddpm_seg.json_text import json_file
from ddpm_seg.runs.layout import RunLayout, uris_under
from ddpm_seg.runs.parquet import DamagedFileError
from ddpm_seg.runs.summary import read_json

logger = logging.getLogger(__name__)

ERRORS_SHOWN = 100
MOST_BARS = 32
FACTS = {"run_id": "", "task": "task", "model_id": "model", "created_at": "begun", "config_hash": "configuration"}
_KEY = ("run_id", "config_hash", "created_at")  # tells runs apart that one browser has seen
STAGES = ("read", "segment", "write")


def write_report(
    output: str, run_id: str, *, contact_sheet: int = 60, read_uris: Mapping[str, str] | None = None
) -> str:
    """Writes the report of a finished run of `labels` beside its `run.json`; returns the report's URI.

    Reads `run.json`, `summary.json` (may be absent) and the run's `labels`. Adds the run's `statistics` and its `drift`
    from earlier runs to `summary.json`. Fetches the `contact_sheet` most uncertain images again; `read_uris` maps a
    stored URI to the one to read, where they differ (signed URLs). Raises FileNotFoundError if `output` has no such
    run, DamagedFileError if one of its files cannot be read.
    """
    fetch = fetch_again(read_uris or {})
    return _write(output, run_id, "labels", contact_sheet, lambda totals, _: _labelled_tiles(totals, fetch))


def write_sample_report(output: str, run_id: str, *, contact_sheet: int = 60) -> str:
    """`write_report` for a run of `samples`, whose table holds the images. Without labels it shows the first images."""
    return _write(output, run_id, "samples", contact_sheet, _sample_tiles)


def _write(
    output: str,
    run_id: str,
    table: str,
    contact_sheet: int,
    tiles_of: Callable[[Totals, Sequence[str]], Sequence[Tile]],
) -> str:
    run_json = storage.join(output, "runs", run_id, "run.json")
    run = read_json(run_json)
    if not isinstance(run.get("config_hash"), str):
        raise DamagedFileError(run_json, "it has no 'config_hash'")
    layout = RunLayout(output=output, table=table, config_hash=run["config_hash"], run_id=run_id)
    summary = read_json(layout.summary) if storage.exists(layout.summary) else {}
    files = [uri for uri in uris_under(layout.shards()) if uri.endswith(".parquet")]
    totals = read_totals(files, keep_uncertain=contact_sheet, keep_errors=ERRORS_SHOWN)
    if totals.outside > WARN_SHARE * totals.judged:
        logger.warning(
            "%s: %d of %d images are unlike those that the model was trained on (domain_distance over %g); "
            "do not trust their labels",
            *(run_id, totals.outside, totals.judged, OUTSIDE),
        )
    if summary:
        summary |= {"domain": {"images": totals.judged, "outside": totals.outside}} if totals.judged else {}
        summary |= _compare_with_earlier(layout, totals)
        storage.write_bytes(layout.summary, json_file(summary))
    html = build_report(run=run, summary=summary, totals=totals, tiles=tiles_of(totals, files), layout=layout)
    storage.write_bytes(layout.report, html.encode())
    return layout.report


def _compare_with_earlier(layout: RunLayout, totals: Totals) -> dict[str, Any]:
    now = statistics_of(totals)
    drift = find_drift(now, earlier_statistics(layout))
    for flag in drift["flags"]:
        logger.warning("%s: %s", layout.run_id, describe(flag))
    return {"statistics": now, "drift": drift}


def _labelled_tiles(totals: Totals, fetch: Fetch) -> list[Tile]:
    rows, palette = totals.most_uncertain, totals.task.palette if totals.task else ()
    masks, heat = read_pictures(rows, "mask"), heat_maps(rows)
    tiles = make_tiles(rows, [masks[row] for row in rows], palette, fetch)
    return [dataclasses.replace(tile, heat_src=heat.get(row)) for row, tile in zip(rows, tiles, strict=True)]


def _sample_tiles(totals: Totals, files: Sequence[str]) -> list[Tile]:
    rows = totals.most_uncertain if totals.task else first_rows(files, totals.keep_uncertain)
    images = {row.uri: _drawn(row, data) for row, data in read_pictures(rows, "image").items()}
    if not totals.task:
        return [plain_tile(row, images[row.uri]) for row in rows]
    return _labelled_tiles(totals, lambda row, height, width: (images[row.uri], ""))


def _drawn(row: LabelledRow, data: bytes) -> NDArray[np.uint8]:
    about = {"uri": row.uri, "width": row.width, "height": row.height}
    return row_image({**about, "image": data}, file=row.file)


def build_report(
    *,
    run: Mapping[str, Any],
    summary: Mapping[str, Any],
    totals: Totals,
    tiles: Sequence[Tile],
    layout: RunLayout | None = None,
) -> str:
    """The page as HTML. `run` and `summary` are the contents of those JSON files; the page omits what they lack.

    With `layout`, it says which commands take a person's verdicts.
    """
    known = {name: str(run[name]) for name in FACTS if run.get(name)}
    if given := run.get("config", {}).get("input"):
        known = {"input": storage.redact(str(given)), **known}
    if "created_at" in known:
        known["created_at"] = known["created_at"][:16].replace("T", " ") + " UTC"
    from_samples = layout is not None and layout.table == "samples"
    others = {name: value for name, value in run.items() if name not in (*FACTS, "config")}
    script = {"script": review_script()} if tiles and totals.task else {}
    return template("report.html").render(
        **script,
        run_id=run.get("run_id", "Run"),
        heading=heading(run, totals.task, from_samples=from_samples),
        run_key={"id": run.get("run_id", ""), "key": " ".join(str(run.get(name)) for name in _KEY)},
        heat=any(tile.heat_src for tile in tiles),
        unlike=any(tile.unlike for tile in tiles),
        more_orders=(("far", "least like the training images first"),) if any(tile.unlike for tile in tiles) else (),
        from_samples=from_samples,
        **(commands(layout, run, totals.task) if layout else {"meanings": (), "export_command": ""}),
        guarantee=_guarantee(run.get("target_error")),
        facts=[(FACTS.get(name, name), value) for name, value in known.items()],
        headline=_headline(summary, totals),
        drift=summary.get("drift"),
        outside_limit=OUTSIDE,
        mostly_outside=totals.outside > WARN_SHARE * totals.judged,
        tiles=tiles,
        totals=totals,
        classes=_class_areas(totals),
        histogram=_histogram(totals),
        timings=_timings(summary),
        settings=[*_flatten(run.get("config", {})), *_flatten(others)],
    )


def _guarantee(found: Mapping[str, Any] | None) -> str | None:
    """What --target-error promises, and what it costs."""
    if not found:
        return None
    return (
        f"Pixels with a confidence below {found['least_confidence']:.3f} have no class (255): {found['guarantee']}. "
        f"Of the calibration images, {found['kept']:.1%} of the pixels were kept."
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClassArea:
    class_id: int
    name: str
    colour: str
    area: float  # mean fraction over all labelled images, 0 in those without the class
    images: int


def _class_areas(totals: Totals) -> list[ClassArea]:
    """Every class of the task in order, including those found in no image."""
    if totals.task is None:
        return []
    return [
        ClassArea(
            class_id=class_id,
            name=name,
            colour=colour,
            area=float(totals.area[class_id]) / max(1, totals.ok),
            images=int(totals.images_with[class_id]),
        )
        for class_id, (name, colour) in enumerate(
            zip(totals.task.class_names, css_colours(totals.task.palette), strict=True)
        )
    ]


def _histogram(totals: Totals) -> dict[str, Any]:
    """Bars and ticks as fractions of the plot's width and height."""
    # With few images, many bars would show noise instead of the shape.
    counts, width = totals.uncertainty.bars(min(MOST_BARS, max(8, int(2 * totals.ok**0.5))))
    right, top = len(counts) * width, max(1, int(counts.max()))
    y_ticks = [tick for tick in _ticks(top, 4) if tick == int(tick)]
    return {
        "bars": [
            {"x": i / len(counts), "height": count / top, "count": count, "low": i * width, "high": (i + 1) * width}
            for i, count in enumerate(counts.tolist())
        ],
        "bar_width": 1 / len(counts),
        "x_ticks": [(tick / right, f"{tick:.6g}") for tick in _ticks(right, 6)],
        "y_ticks": [(tick / top, short(tick)) for tick in y_ticks],
        "median": totals.uncertainty.quantile(0.5),
        "ninth_decile": totals.uncertainty.quantile(0.9),
    }


def _ticks(largest: float, about: int) -> list[float]:
    """Round numbers 0, s, 2s, ... up to `largest`, roughly `about` of them."""
    rough = largest / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    return [step * i for i in range(int(largest / step * 1.0000001) + 1)]


def _timings(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each stage in the summary with its seconds, seconds per image and share of all work."""
    seconds = {stage: summary["seconds"][stage] for stage in STAGES if stage in summary.get("seconds", {})}
    images, work = summary.get("timed_images") or 0, sum(seconds.values())
    return [
        {
            "stage": stage,
            "seconds": value,
            "per_image": value / images if images else None,
            "share": value / work if work else 0.0,
        }
        for stage, value in seconds.items()
    ]


def _headline(summary: Mapping[str, Any], totals: Totals) -> list[tuple[str, str]]:
    """The numbers at the top: counts from the tables, and the speed of the run's last attempt."""
    numbers = [("Images", count(totals.images)), ("Labelled", count(totals.ok)), ("Errors", count(totals.errors))]
    if (speed := summary.get("images_per_hour")) is not None:
        numbers.append(("Images per hour", short(speed)))
    if (seconds := summary.get("seconds", {}).get("total")) is not None:
        numbers.append(("Wall time", duration(seconds)))
    return numbers


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yields (dotted name, text) for every leaf of nested mappings; removes credentials and queries from URIs."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, str):
        yield name, storage.redact(value) if "://" in value else value
    else:
        yield name, json.dumps(value, ensure_ascii=False)
