"""Many disturbed runs on a page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tests.chaos.campaign import Record

HEADER = (
    "storage | fault | runs | struck | attempts, most | lost | doubled | differing | "
    "images segmented again, most | chunks fetched again, most | done ones among them, most | other problems"
)


def table_of(records: Iterable[Record]) -> str:
    """Markdown: a row for each kind of fault on each storage, then their sum; problems in full below."""
    records = list(records)
    groups: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.storage, record.kind].append(record)
    lines = [f"| {HEADER} |", "|" + "---|" * (HEADER.count("|") + 1)]
    lines += [_row(*key, group) for key, group in sorted(groups.items())]
    lines.append(_row("both", "all", records))
    problems = [
        f"{record.storage}, seed {record.seed}, {record.fault}: {record.problems}"
        for record in records
        if record.problems
    ]
    return "\n".join([*lines, "", *problems]).rstrip()


def _row(storage: str, kind: str, group: list[Record]) -> str:
    numbers = [
        len(group),
        sum(record.struck for record in group),
        max(len(record.exits) for record in group),
        *(sum(getattr(record, name) for record in group) for name in ("lost", "doubled", "differing")),
        *(max(getattr(record, name) for record in group) for name in ("segmented_again", "begun_again", "done_again")),
        sum(bool(record.problems) for record in group),
    ]
    return f"| {storage} | {kind} | " + " | ".join(map(str, numbers)) + " |"
