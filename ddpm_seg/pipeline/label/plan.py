"""Plans the label job: finds the images that are still to label. Writes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.data.inputs.container import Choice
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.data.inputs.verdicts import Chosen, read_chosen
from ddpm_seg.data.inputs.versions import with_versions
from ddpm_seg.data.inputs.wanted import Listing, Wanted
from ddpm_seg.data.schema import DOMAIN_DISTANCE
from ddpm_seg.evaluation.scores.risk_control import Threshold
from ddpm_seg.fits import chosen_fit, fit_of
from ddpm_seg.json_text import json_digest
from ddpm_seg.model.bundle.ensemble_bundle import BundleHeader
from ddpm_seg.model.bundle.files import ASSETS, refuse_another_model
from ddpm_seg.model.features import as_tuned
from ddpm_seg.model.trained import calibration_digest, check_dtype, read_trained_header
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.read_uris import SIGNED, noted, refuse_unlisted, with_signed
from ddpm_seg.pipeline.label.units import failed_inside, named_inside, settled, with_units
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.ledger import newest_options
from ddpm_seg.runs.manifest import UNIT, chunk_size_for, inputs_spool, stored_uri
from ddpm_seg.runs.parquet import damage_stops
from ddpm_seg.runs.plan import MOST_IN_RUN, RunPlan, plan_run
from ddpm_seg.spool import Spool

if TYPE_CHECKING:
    from ddpm_seg.model.trained import TrainedHeader

TABLE = "labels"
CLASS_STATS = "class_stats"
TILED_CHUNK = 4
"""Most images per chunk with --tile: a chunk's canvases are in memory together."""
REFUSED = "refused"
"""Manifest column with the error type and message of list entries that are not read; absent if there are none."""
TYPICAL_BYTES = 32 * 1024
"""Guess of an image's size in a container, to choose the size of chunks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelPlan:
    """What was found at the input, and what there is to do (`run`, whose items are INPUTS rows)."""

    config: LabelConfig
    header: TrainedHeader
    run: RunPlan
    images: int
    """How many were found, without those in `containers`."""
    containers: int
    """Tars and tables with images, which are counted when the run looks into them."""
    column: str
    """For a list, a description of the column that has the names; empty for other inputs."""
    skipped_files: int
    """Files without an image's extension."""
    hidden_files: int
    """Hidden images and those of the operating system."""
    refused: int
    """List entries that become error rows without being read, and damaged containers."""
    read_uris: dict[str, str]
    """Maps the URI in the tables to the URI to read, where they differ."""
    domain: bool
    """Whether the rows of a new run have `domain_distance`."""
    local_hosts: bool
    """Whether http(s) inputs on this machine may be read."""
    threshold: Threshold | None = None
    """Pixels with less confidence than this get no class; None keeps all pixels."""

    def __str__(self) -> str:
        config, run, new = self.config, self.run, self.run.items_new
        labels = RunLayout(output=run.output, table=TABLE, config_hash=run.config_hash, run_id="").configuration()
        chunk_size = chunk_size_for(self.about_new, config.chunk_size, config.num_actors or 1)
        errors = ", errors of earlier runs among them," if config.retry_errors else ""
        units = self.new_containers.num_rows
        shards = f"{-(-(new - units) // config.shard_size)} shards of {config.shard_size}"
        if units:
            new_ones = f"{new - units}{errors} and those in {units} containers, in shards of {config.shard_size}"
        else:
            new_ones = f"{new}{errors} in {shards}"
        lines = [
            f"model      {self.header.model_id}",
            *([f"redo       only the images that {config.redo} chooses"] if config.redo else []),
            f"images     {self.images} found, {self.skipped_files} files without an image's extension left out"
            + (f", {self.hidden_files} hidden images left out" if self.hidden_files else ""),
            *([f"containers {self._containers()}"] if self.containers else []),
            f"fit        {config.fit}",
            f"resize     {config.resize}",
            *([f"refine     {config.refine}"] if config.refine not in (None, "none") else []),
            *([f"average    {config.average}"] if config.average not in (None, "none") else []),
            *([f"tile       squares of {self.header.image_size} at scale {config.tile:g}"] if config.tile else []),
            *([f"list       {self.column}, {self.refused} entries refused"] if self.column else []),
            *([f"damaged    {self.refused} containers"] if self.refused and not self.column else []),
            f"done       {run.already_done} of them by earlier runs with this model and these options",
            f"unfinished {run.items_left} in {len(run.unfinished)} interrupted runs, to be finished first",
            f"new        {new_ones}, chunks of {chunk_size}",
            *([f"runs       of at most {MOST_IN_RUN} images, one after another"] if run.later else []),
            f"labels     {labels}",
        ]
        return "\n".join(lines)

    @property
    def about_new(self) -> int:
        """About how many images are new. For those in containers this is a guess from bytes."""
        units = self.new_containers
        size = pc.sum(units["size_bytes"]).as_py() or 0
        return self.run.items_new - units.num_rows + max(size // TYPICAL_BYTES, units.num_rows)

    @property
    def new_containers(self) -> pa.Table:
        """The rows of `run.new` that are containers."""
        new = self.run.new
        return new.filter(pc.is_valid(new[UNIT])) if UNIT in new.column_names else new.slice(0, 0)

    def _containers(self) -> str:
        units = self.new_containers
        size = pc.sum(units["size_bytes"]).as_py() or 0
        return f"{self.containers} tars or tables found, {units.num_rows} of them new ({size / 1e6:.1f} MB)"


@damage_stops()
def plan_label(config: LabelConfig, threshold: Threshold | None = None) -> LabelPlan:
    """Plans the job; only reads. `threshold` is the least confidence that was found for --target-error.

    Raises ValueError or OSError for a bundle or input that cannot be used, ValueError for an input that lacks what an
    interrupted run needs, and StageError for a file of the output that cannot be read.
    """
    if config.target_error is not None and threshold is None:
        raise ValueError(
            "--target-error has no --dry-run: the --calibration images must be labelled to know what is left out"
        )
    header, _ = read_trained_header(config.model)
    refuse_another_model(config.model, header.model_id, config.expect_model_id)
    check_dtype(header, config.dtype)
    wanted = Wanted(choice=chosen_members(config), whole=True, uri_column=config.uri_column)
    listing = list_images(config.input if config.input is not None else str(ASSETS / "samples"), wanted)
    storage.allow_local_hosts(config.allow_local_hosts or _is_one_url(config.input, listing))
    fit = chosen_fit(config.model, header.provenance, config.fit)
    config = dataclasses.replace(chosen_ways(config, header), fit=fit)
    if config.tile is not None:
        config = dataclasses.replace(config, chunk_size=min(config.chunk_size, TILED_CHUNK))
    read_uris: dict[str, str] = {}
    chosen = read_chosen(config.redo, "reject") if config.redo else None
    config_hash = hash_config(config, header, threshold)
    tables = TABLE, CLASS_STATS
    retried = failed_inside(config.output, TABLE, config_hash) if config.retry_errors else []
    inputs = _inputs(config, listing, chosen, retried, read_uris)
    units = _count_units(inputs)
    run = plan_run(
        *(inputs, config.output, tables, config_hash),
        retry_errors=config.retry_errors,
        redo=_judged_runs(chosen, inputs.table()) if chosen else None,
        limit=None if units else config.limit,
    )
    refuse_unlisted(run.unfinished, inputs, read_uris)
    run = settled(run, wanted.choice, retried, config.limit, read_uris)
    return LabelPlan(
        config=config,
        header=header,
        run=run,
        images=inputs.num_rows - units,
        containers=units,
        column=listing.column,
        skipped_files=listing.skipped,
        hidden_files=listing.hidden,
        refused=len(listing.refused),
        read_uris=read_uris,
        domain=_has_distances(header, run),
        local_hosts=storage.local_hosts_allowed(),
        threshold=threshold,
    )


def _has_distances(header: TrainedHeader, run: RunPlan) -> bool:
    """A configuration keeps its columns: tools that read all its files take those of the first for those of all."""
    known = isinstance(header, BundleHeader) and header.has_domain
    return known and (run.last_run is None or bool(run.last_options.get(DOMAIN_DISTANCE.name)))


def chosen_members(options: LabelConfig | Mapping[str, object]) -> Choice:
    """Which images in containers were chosen by a call's options, or by those that a manifest stores."""
    stored = options if isinstance(options, Mapping) else dataclasses.asdict(options)
    named = {name: stored.get(name) for name in ("image_key", "image_column")}
    return Choice(**{name: None if value is None else str(value) for name, value in named.items()})


def _inputs(
    config: LabelConfig, listing: Listing, chosen: Chosen | None, retried: Collection[str], read_uris: dict[str, str]
) -> Spool:
    """INPUTS rows of the `chosen` images (None: all), with the column REFUSED if the list has entries that are refused,
    SIGNED if it fills `read_uris`, and those of `with_units` if there are containers. Images in listed containers that
    are in `retried` have rows too."""
    named = listing.files if chosen is None else named_inside(listing.files, chosen.names)
    if retried and chosen is None:
        named = _with_retried(named, retried)
    files = with_versions(named) if config.check_versions else named
    refused: dict[str, str] = {}
    rest = _noting_refused(listing, refused)
    if chosen is not None:
        rest = filter(lambda file: stored_uri(file.uri) in chosen.names, rest)
    inputs = inputs_spool(chain(noted(files, read_uris), rest))
    inputs = with_units(inputs, chosen_members(config), refused)
    if read_uris and (listing.column or _is_one_url(config.input, listing)):  # what a folder lacks is gone
        inputs = inputs.mapped(lambda rows: with_signed(rows, read_uris), inputs.schema.append(SIGNED))
    if not refused:
        return inputs
    reasons = pa.field(REFUSED, pa.string())

    def with_reasons(rows: pa.Table) -> pa.Table:
        uris: list[Any] = rows["uri"].to_pylist()
        return rows.append_column(reasons, pa.array([refused.get(uri) for uri in uris], reasons.type))

    return inputs.mapped(with_reasons, inputs.schema.append(reasons))


def _count_units(inputs: Spool) -> int:
    """The number of containers that are planned as a whole."""
    if UNIT not in inputs.schema.names:
        return 0
    return sum(len(batch) - batch[UNIT].null_count for batch in inputs.batches())


def _with_retried(files: Iterable[storage.FileInfo], retried: Collection[str]) -> Iterator[storage.FileInfo]:
    for file in files:
        yield file
        yield from (one for one in named_inside([file], retried) if one.uri != file.uri)


def _judged_runs(chosen: Chosen, inputs: pa.Table) -> dict[str, str]:
    """For each input's id, the run that was judged when it was chosen, or "". Raises ValueError if nothing is left."""
    uris: list[Any] = inputs["uri"].to_pylist()
    ids: list[Any] = inputs["image_id"].to_pylist()
    chosen.check_found(uris, "--input")
    return {name: chosen.entries[uri].run_id for name, uri in zip(ids, uris, strict=True)}


def _is_one_url(input_uri: str | None, listing: Listing) -> bool:
    """Whether the user named one image on a web server: then its host is the user's choice, not a list's."""
    return input_uri is not None and storage.is_http(input_uri) and not listing.column


def _noting_refused(listing: Listing, refused: dict[str, str]) -> Iterator[storage.FileInfo]:
    """An input for each refused entry. Use it after the files are listed, which finds some of these entries."""
    for entry in listing.refused:
        uri = stored_uri(entry.uri)
        if uri not in refused:
            yield storage.FileInfo(uri=uri)
        refused[uri] = f"{entry.error_type}: {entry.reason}"


def chosen_ways(config: LabelConfig, header: TrainedHeader) -> LabelConfig:
    """`config` with its `resize`, `refine` and `average`: those given, else those that the bundle was tuned to.

    Without either, resize is that of the output's newest run. Runs of releases without this option used nearest.
    """
    features = header.features if isinstance(header, BundleHeader) else None
    tiles = config.tile is not None
    resize, refine, average = as_tuned(features, config.resize, config.refine, config.average, tiles=tiles)
    if resize is None:
        options = newest_options(config.output, having="fit")
        resize = "bilinear" if options.get("resize") == "bilinear" or not options else "nearest"
    return dataclasses.replace(config, resize=resize, refine=refine, average=average)


def hash_config(config: LabelConfig, header: TrainedHeader, threshold: Threshold | None = None) -> str:
    """The config_hash, 12 hex digits: a hash of the model and every option that can change a pixel of the output.

    Options added in later releases are hashed only if they differ from what earlier releases did.
    """
    fit = fit_of(header.provenance, config.fit)
    content: dict[str, object] = {"model_id": header.model_id, "fit": fit, "dtype": config.dtype}
    if config.resize != "nearest":
        content["resize"] = "bilinear"
    if config.refine not in (None, "none"):
        content["refine"] = config.refine
    if config.average not in (None, "none"):
        content["average"] = config.average
    if digest := calibration_digest(header):
        content["calibration"] = digest
    if threshold is not None:
        content["least_confidence"] = threshold.confidence
    if config.tile is not None:
        content["tile"] = config.tile
    if config.maps:
        content["maps"] = True
    return json_digest(content)[:12]
