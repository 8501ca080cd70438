"""Summarises many disturbed runs in a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from tests.chaos.campaign import Record

HEADER = (
    "storage | fault | runs | struck | attempts, most | lost | doubled | differing | wrong model_id | "
    "images segmented again, most | chunks fetched again, most | done ones among them, most | other problems"
)


_WRONG = ("lost", "doubled", "differing", "wrong_model")


def table_by_strike(records: Iterable[Record]) -> str:
    """The short table, in Markdown: a row per kind of fault, with the runs of each job on local disk and S3."""
    groups: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record.kind].append(record)
        groups["**all**"].append(record)
    lines = [
        "| struck by | label, local + S3 | generate, local + S3 | lost, doubled, different, under a wrong model_id "
        "| images segmented again, at most |",
        "|---|---|---|---|---|",
    ]
    for kind, group in sorted(groups.items(), key=lambda item: (item[0].startswith("*"), item[0])):
        cells = Counter((record.job, record.storage) for record in group)
        runs = [
            " + ".join(str(sum(cells[job, storage] for job in jobs)) for storage in ("local", "s3"))
            for jobs in (("label", "label-tar"), ("generate", "generate-gan"))
        ]
        wrong = ", ".join(str(sum(getattr(record, name) for record in group)) for name in _WRONG)
        again = max(record.segmented_again for record in group)
        lines.append(f"| {kind} | {' | '.join(runs)} | {wrong} | {again} |")
    return "\n".join(lines)


def table_of(records: Iterable[Record]) -> str:
    """The full table, in Markdown: a row per kind of fault and storage, the sum, and all problems below."""
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
        *(sum(getattr(record, name) for record in group) for name in _WRONG),
        *(max(getattr(record, name) for record in group) for name in ("segmented_again", "begun_again", "done_again")),
        sum(bool(record.problems) for record in group),
    ]
    return f"| {storage} | {kind} | " + " | ".join(map(str, numbers)) + " |"
