"""The reference in `ddpm_seg/README.md` against the schemas. Tests of jobs hold the files they write against it too."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import ddpm_seg
from ddpm_seg.data.exports.huggingface import SCHEMA
from ddpm_seg.data.schema import METADATA_KEY, class_stats_table, labels_schema, samples_schema
from ddpm_seg.evaluation.tables.curation import Curation
from ddpm_seg.evaluation.tables.drift import find_drift, statistics_of
from ddpm_seg.evaluation.tables.totals import Totals
from ddpm_seg.json_text import json_file
from ddpm_seg.model.bundle.files import SCHEMA_VERSION
from ddpm_seg.runs.manifest import INPUTS, plan
from ddpm_seg.runs.summary import RunSummary
from ddpm_seg.studies.evaluate import images_table
from ddpm_seg.studies.results import scored, summarise
from ddpm_seg.tasks import TASKS
from tests.recorded.recorded import unpack
from tests.schema_reference import REFERENCE, check_columns, check_keys, documented

TASK = TASKS["avatars_10"]
LABELS = labels_schema(TASK)


def test_tables() -> None:
    check_columns("labels", LABELS)
    check_columns("labels.classes", LABELS.field("classes").type.value_type)
    check_columns("class_stats", class_stats_table(pa.Table.from_pylist([], LABELS)).schema)
    check_columns("samples", samples_schema(TASK))
    check_columns("manifest", plan(INPUTS.empty_table(), 1, 1).schema)
    check_columns("images.parquet", images_table([]).schema)
    check_columns("huggingface", SCHEMA)
    check_keys("table metadata", json.loads(LABELS.metadata[METADATA_KEY]))


@pytest.mark.parametrize("kind", ["ddpm", "ddpm-ensemble", "diffusers", "mae", "swav", "student"])
def test_bundles(kind: str, tmp_path: Path) -> None:
    content = json.loads((unpack("bundles", tmp_path) / kind / "bundle.json").read_text())
    (network,) = {"unet", "diffusers_unet", "mae", "swav", "student"} & set(content)
    assert f"| `{network}` |" in REFERENCE.read_text()
    assert isinstance(content.pop(network), dict)
    if network == "student":
        content |= {"features": None, "num_members": 0}  # what the text says that it lacks
    check_keys("bundle.json", content)
    assert content["schema_version"] == (SCHEMA_VERSION if network in ("unet", "student") else 2)


def test_summary() -> None:
    now = datetime.now(timezone.utc)
    counts = {"images": 2, "ok": 1, "errors": {"empty": 1}, "shards": 1, "timed_images": 0, "images_per_hour": None}
    names = {"run_id": "run-000001", "config_hash": "abc", "seconds": {"total": 1.0}, "computed_by": ["AVX2"]}
    summary = RunSummary(**names, **counts, started_at=now, finished_at=now)  # type: ignore[arg-type]
    statistics = statistics_of(Totals(keep_uncertain=1, keep_errors=1, task=TASK))
    added = {"statistics": statistics, "drift": find_drift(statistics, [])}
    check_keys("summary.json", json.loads(json_file(dataclasses.asdict(summary) | added)))


def test_curation() -> None:
    limits = {"least_uncertainty": 0.0, "most_uncertainty": 0.5, "ignore_above": None}
    rule = Curation(config_hash="abc", **limits, rule={}, counts={})  # type: ignore[arg-type]
    check_keys("curation.json", json.loads(json_file(dataclasses.asdict(rule))))


def test_comparison() -> None:
    confusion = np.eye(TASK.num_classes + 1, dtype=np.int64)
    (row,) = summarise([scored("DDPM", "split-1", {}, confusion, TASK)])
    check_keys("comparison.json", json.loads(json_file(row)))


def test_every_table_says_something() -> None:
    """A table whose form the pattern does not know would be compared with nothing."""
    assert len(documented()) == REFERENCE.read_text().count("<!-- schema: ")
    assert all(documented().values())


def test_every_file_that_is_written_is_mentioned() -> None:
    """By name: every string of the code that is the name of a JSON, Parquet or CSV file."""
    of_others = {"config.json", "model_index.json", "scheduler_config.json", "configuration.json"}
    of_others |= {"preprocessor_config.json", "vocab.json", "tokenizer.json", "tokenizer_config.json"}
    of_others |= {"special_tokens_map.json", ".metadata.json", "manifest.json", "_classes.csv"}
    of_exports = {"tasks.json", "annotations.json"}
    strings = (
        node.value
        for path in Path(ddpm_seg.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    names = {Path(one).name for one in strings if re.fullmatch(r"[\w./-]*\w\.(json|parquet|csv)", one)}
    text = REFERENCE.read_text()
    assert not sorted(name for name in names - of_others - of_exports if name not in text)


def test_python() -> None:
    text = " ".join(REFERENCE.read_text().split())  # a long signature takes two lines
    assert f"ddpm_seg.__version__ # {ddpm_seg.__version__!r}".replace("'", '"') in text
    for name in set(ddpm_seg.__all__) - {"__version__"}:
        parameters = inspect.signature(getattr(ddpm_seg, name)).parameters.values()
        plain = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
        said = str(inspect.Signature(plain)).replace("'", '"')
        assert f"ddpm_seg.{name}{said}" in text


def test_error_types() -> None:
    """Those listed are those that the code gives: the first argument of an ImageError, and what rows are told."""
    listed = REFERENCE.read_text().partition("`error_type` is one of: ")[2].partition("More may come")[0]
    source = "\n".join(
        path.read_text() for path in Path(ddpm_seg.__path__[0]).rglob("*.py") if "exports" not in path.parts
    )
    names = r'(?:ImageError\(|_failed\(source, |error_type=|NOT_FINITE = |_broken\(|kind = (?="changed"))\s*"(\w+)"'
    given = set(re.findall(names, source))
    assert set(re.findall(r"`(\w+)`", listed)) == given
