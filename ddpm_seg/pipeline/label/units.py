"""Plans containers: as a whole, so that planning need not read them, or image by image where only some are wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.container import Choice
from ddpm_seg.pipeline.label.read_uris import with_signed
from ddpm_seg.runs.done import images_planned_singly
from ddpm_seg.runs.ledger import find_runs
from ddpm_seg.runs.manifest import INSIDE, UNIT, WITHOUT, image_id, inputs_table, stored_uri
from ddpm_seg.runs.plan import RunPlan
from ddpm_seg.runs.upkeep.forgotten import forgotten_ids, is_forgotten
from ddpm_seg.runs.view import current_errors
from ddpm_seg.spool import Spool


def unit_id(container: str, choice: Choice) -> str:
    """The id of a container as a whole. Another choice of images in it is other work."""
    chosen = choice.image_key if sources.kind_name(container) == "tar" else choice.image_column
    return image_id(container) if chosen is None else image_id(f"{container}#*.{chosen}")


def with_units(inputs: Spool, choice: Choice, refused: Collection[str]) -> Spool:
    """The inputs with the columns INSIDE and UNIT, if there are containers or images in them. Containers in `refused`
    stay single inputs."""
    if not any(map(_may_have_containers, inputs.batches())):
        return inputs
    schema = inputs.schema.append(pa.field(INSIDE, pa.string())).append(pa.field(UNIT, pa.string()))
    return inputs.mapped(lambda rows: _with_units(rows, choice, refused), schema)


def _may_have_containers(inputs: pa.RecordBatch) -> bool:
    suffixes = [suffix for kind in sources.KINDS if kind.open_indexed is not None for suffix in kind.suffixes]
    names = pc.utf8_lower(inputs["uri"])
    return any(pc.any(pc.match_substring(names, suffix)).as_py() for suffix in suffixes)


def _with_units(inputs: pa.Table, choice: Choice, refused: Collection[str]) -> pa.Table:
    uris: list[Any] = inputs["uri"].to_pylist()
    ids: list[Any] = inputs["image_id"].to_pylist()
    kinds: list[str | None] = [None] * len(uris)
    inside: list[str | None] = [None] * len(uris)
    for row, uri in enumerate(uris):
        container, member = sources.split(uri)
        if member and sources.is_indexed(container):
            inside[row] = unit_id(container, choice)
        elif not member and uri not in refused and sources.is_indexed(uri):
            kinds[row], ids[row] = sources.kind_name(uri), unit_id(uri, choice)
    inputs = inputs.set_column(inputs.schema.get_field_index("image_id"), "image_id", pa.array(ids, pa.string()))
    inputs = inputs.append_column(INSIDE, pa.array(inside, pa.string()))
    return inputs.append_column(UNIT, pa.array(kinds, pa.string()))


def named_inside(files: Iterable[storage.FileInfo], names: Collection[str]) -> Iterator[storage.FileInfo]:
    """The files among `names` (stored URIs), and for each container the images in it that are among them."""
    members: dict[str, list[str]] = {}
    for name in names:
        container, member = sources.split(name)
        if member:
            members.setdefault(container, []).append(member)
    for file in files:
        uri = stored_uri(file.uri)
        if uri in names:
            yield file
        elif uri in members and sources.is_indexed(file.uri):
            yield from (dataclasses.replace(file, uri=file.uri + member) for member in members[uri])


def failed_inside(output: str, table: str, config_hash: str) -> list[str]:
    """The URIs of images in containers whose latest row is an error."""
    return [uri for uri in current_errors(output, table, config_hash).values() if sources.is_in_container(uri)]


def settled(
    run: RunPlan, choice: Choice, retried: Collection[str], limit: int | None, read_uris: Mapping[str, str]
) -> RunPlan:
    """The plan `run` without images that come with their container anyway, and with at most `limit` images.

    `retried` are images in containers that were added because they have errors. A limit reads containers, as far as
    needed.
    """
    new = run.new
    if UNIT in new.column_names:
        if retried and INSIDE in new.column_names:
            whole = new.filter(pc.is_valid(new[UNIT]))["image_id"]
            with_it = pc.and_(pc.is_in(new["uri"], pa.array(sorted(retried))), pc.is_in(new[INSIDE], whole))
            new = new.filter(pc.invert(with_it))
        new = _without(new, run)
        if limit is not None:
            new = _limited(new, choice, limit, read_uris, forgotten_ids(run.output))
    elif limit is not None:
        new = new.slice(0, limit)
    later = run.later if run.later is None or limit is None else run.later.first(limit - new.num_rows)
    empty = [name for name in (INSIDE, UNIT, WITHOUT) if name in new.column_names]
    empty = [name for name in empty if name == INSIDE or new[name].null_count == new.num_rows]
    run = dataclasses.replace(run, new=new.drop_columns(empty), later=later)
    return dataclasses.replace(run, retried=min(run.retried, run.items_new))


def _without(new: pa.Table, run: RunPlan) -> pa.Table:
    """Adds the column WITHOUT, if any images of new containers are single inputs of this run or another."""
    units = new.filter(pc.is_valid(new[UNIT]))
    runs = find_runs(run.output, run.table, run.config_hash)
    single = images_planned_singly(units, runs) if runs and units.num_rows else {}
    rest: list[Any] = new.filter(pc.is_null(new[UNIT]))["uri"].to_pylist()
    for uri in rest:
        container, member = sources.split(uri)
        if member:
            single.setdefault(container, []).append(uri)
    if not single:
        return new
    uris: list[Any] = new["uri"].to_pylist()
    return new.append_column(WITHOUT, pa.array([single.get(uri) for uri in uris], pa.list_(pa.string())))


def _limited(
    new: pa.Table, choice: Choice, limit: int, read_uris: Mapping[str, str], forgotten: Collection[str]
) -> pa.Table:
    """At most `limit` images, those of containers as single inputs, without those whose ids are `forgotten`."""
    parts = [new.filter(pc.is_null(new[UNIT])).slice(0, limit)]
    left = limit - parts[0].num_rows
    for unit in new.filter(pc.is_valid(new[UNIT])).to_pylist():
        if not left:
            break
        without = set(unit.get(WITHOUT) or ())
        inside = _images_in(read_uris.get(unit["uri"], unit["uri"]), choice)
        named = ((file, stored_uri(file.uri)) for file in inside)
        wanted = (file for file, uri in named if uri not in without and not is_forgotten(uri, forgotten))
        found = list(islice(wanted, left))
        # A container that cannot be read at all is planned as it is, and becomes one row with the error.
        row = with_signed(inputs_table(found), read_uris) if found else new.filter(pc.equal(new["uri"], unit["uri"]))
        parts.append(row)
        left -= row.num_rows
    return pa.concat_tables(parts, promote_options="default").select(new.column_names)


def _images_in(container: str, choice: Choice) -> Iterator[storage.FileInfo]:
    """The images in a container, as far as it can be read. Raises the error of a store that does not answer."""
    try:
        yield from sources.images_in(container, choice) or ()
    except (OSError, ValueError) as error:
        if sources.is_outage(error, container):
            raise
