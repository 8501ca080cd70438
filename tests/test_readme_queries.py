"""The README's SQL, on tables as three nights leave them."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from ddpm_seg import read_labels
from ddpm_seg.tasks import TASKS
from tests.runs.nightly_runs import labelled, night

README = (Path(__file__).parents[1] / "jobs" / "README.md").read_text()
SETUP, DOUBTFUL, ERRORS, MUCH_HAIR, UNLIKE, NIGHTS = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
AVATARS = TASKS["avatars_10"]
BROKEN = {"error_type": "empty", "error_message": "no bytes"}


def face(number: int, uncertainty: float, hair: float) -> dict[str, object]:
    parts = {"hair": hair, "background": 1 - hair} if hair else {"background": 1.0}
    return labelled(number, uncertainty, AVATARS, **parts)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """In the folder of an output `out`; b is labelled twice, c fails and is labelled the night after."""
    folder = tmp_path_factory.mktemp("queries")
    nights = [
        {"a": face(1, 0.1, 0.2), "b": face(1, 0.9, 0.8), "c": BROKEN},
        {"b": face(2, 0.2, 0.4), "c": face(2, 0.5, 0.0)},
        {"d": face(3, 0.3, 0.6), "e": BROKEN},
    ]
    for number, images in enumerate(nights, 1):
        night(folder / "out", number, images, shard_size=2, task=AVATARS)
    connection = duckdb.connect()
    connection.execute(f"set file_search_path = '{folder}'")
    connection.execute(SETUP)
    return connection


def rows(tables: duckdb.DuckDBPyConnection, query: str) -> list[tuple[object, ...]]:
    """URIs without their prefix, numbers with two digits."""

    def plain(value: object) -> object:
        return round(value, 2) if isinstance(value, float) else str(value).removeprefix("s3://b/")

    return [tuple(map(plain, row)) for row in tables.execute(query).fetchall()]


def test_the_view_is_that_of_the_package(tables: duckdb.DuckDBPyConnection) -> None:
    (folder,) = tables.execute("select current_setting('file_search_path')").fetchone() or ("",)
    expected = read_labels(f"{folder}/out", columns=["uri", "run_id"]).to_pylist()
    found = tables.execute("select uri, run_id from latest order by uri").fetchall()
    assert found == [(row["uri"], row["run_id"]) for row in expected]


def test_the_most_doubtful(tables: duckdb.DuckDBPyConnection) -> None:
    assert rows(tables, DOUBTFUL) == [("c", 0.5), ("d", 0.3), ("b", 0.2), ("a", 0.1)]


def test_errors_by_type(tables: duckdb.DuckDBPyConnection) -> None:
    assert rows(tables, ERRORS) == [("empty", "1", "e")]


def test_much_of_a_class(tables: duckdb.DuckDBPyConnection) -> None:
    assert rows(tables, MUCH_HAIR) == [("d", 0.6, 0.9), ("b", 0.4, 0.9)]


def test_night_by_night(tables: duckdb.DuckDBPyConnection) -> None:
    hair = [row for row in rows(tables, NIGHTS) if row[1] == "hair"]
    assert hair == [
        ("run-000001", "hair", 0.5, 1.0),
        ("run-000002", "hair", 0.2, 0.5),
        ("run-000003", "hair", 0.6, 1.0),
    ]


@pytest.mark.parametrize("first", ["without", "with"])
def test_tables_with_and_without_a_column_are_read_together(tmp_path: Path, first: str) -> None:
    """Two models have labelled into one output, and only one of them knows its training images."""
    with_distance = {
        "g": face(2, 0.4, 0.0) | {"domain_distance": 2.5},
        "h": face(2, 0.3, 0.1) | {"domain_distance": 1.0},
    }
    nights = {"without": ({"f": face(1, 0.1, 0.2)}, "a"), "with": (with_distance, "b")}
    for number, key in enumerate(sorted(nights, key=lambda key: key != first), 1):
        images, config_hash = nights[key]
        night(tmp_path / "out", number, images, task=AVATARS, config_hash=config_hash)
    connection = duckdb.connect()
    connection.execute(f"set file_search_path = '{tmp_path}'")
    connection.execute(SETUP)
    assert rows(connection, UNLIKE) == [("g", 2.5)]
    assert rows(connection, DOUBTFUL) == [("g", 0.4), ("h", 0.3), ("f", 0.1)]
    assert len(rows(connection, NIGHTS)) >= 2
