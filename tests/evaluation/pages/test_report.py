import html.parser
from collections import Counter
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.data.schema import labels_schema
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.evaluation.pages.page import review_script
from ddpm_seg.evaluation.pages.report import build_report, write_report
from ddpm_seg.evaluation.tables.totals import Totals
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.manifest import RunInfo
from ddpm_seg.runs.parquet import encode
from ddpm_seg.runs.summary import RunSummary, write_run_json, write_summary
from ddpm_seg.tasks import Task

BEGUN = datetime(2025, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
TASK = Task(name="two", class_names=("sky", "<b>sea</b>"), palette=((200, 220, 240), (0, 0, 255)))
HOSTILE = "<script>alert(1)<_script>\"'><img src=x onerror=y>&.png"


class Page(html.parser.HTMLParser):
    """Tags and their attributes, and all text outside of styles and scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data + " "

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def ok_row(folder, name, uncertainty, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.zeros((16, 16), np.uint8)
    mask[:4] = 1
    uri = str(folder / name)
    storage.write_bytes(uri, encode_png(rng.integers(0, 256, (16, 16, 3), np.uint8)))
    classes = [{"class_id": 0, "fraction": 0.75}, {"class_id": 1, "fraction": 0.25}]
    return {
        "uri": uri,
        "status": "ok",
        "width": 16,
        "height": 16,
        "mask": {"bytes": encode_png(mask)},
        "uncertainty": uncertainty,
        "classes": classes,
    }


def error_row(uri, kind="truncated", message="cut short"):
    return {"uri": uri, "status": "error", "error_type": kind, "error_message": message}


def write_run(output, rows, *, summary=True, **config):
    layout = RunLayout(output=str(output), table="labels", config_hash="c0ffee", run_id="run-000001")
    storage.write_bytes(layout.shard(0), encode(pa.Table.from_pylist(rows, schema=labels_schema(TASK))))
    info = RunInfo(run_id="run-000001", config_hash="c0ffee", created_at=BEGUN, config=config)
    write_run_json(layout, info, {"model_id": "two-1234"})
    if summary:
        errors = Counter(row["error_type"] for row in rows if row["status"] == "error")
        record = RunSummary(
            run_id="run-000001",
            config_hash="c0ffee",
            images=len(rows),
            ok=len(rows) - errors.total(),
            errors=dict(errors),
            shards=1,
            started_at=BEGUN,
            finished_at=BEGUN,
            timed_images=len(rows),
            images_per_hour=12345.6,
            seconds={"total": 75.0, "read": 10.0, "segment": 60.0, "write": 30.0},
            computed_by=["AVX2"],
        )
        write_summary(layout, record)
    return layout


def report_of(output, **options):
    uri = write_report(str(output), "run-000001", **options)
    return Page(storage.read_bytes(uri).decode())


def test_the_page_shows_the_run(tmp_path):
    rows = [ok_row(tmp_path, f"{i}.png", uncertainty=i / 10, seed=i) for i in range(5)]
    layout = write_run(tmp_path / "out", [*rows, error_row("/in/bad.jpg")], fit="letterbox", nested={"deep": 3})
    page = report_of(tmp_path / "out", contact_sheet=3)
    assert storage.exists(layout.report)
    alts = [image["alt"] for image in page.all("img")]
    assert alts == [text for i in (4, 3, 2) for text in (f"{i}.png", f"Classes of {i}.png: sky, <b>sea</b>")]
    text = " ".join(page.text.split())
    for expected in (
        "Images 6",
        "Labelled 5",
        "Errors 1",
        "Images per hour 12.3k",
        "1 min 15 s",
        "begun 2025-01-02 03:04 UTC",
        "sky 75.0 % · 5 images",
        "<b>sea</b> 25.0 % · 5 images",
        "/in/bad.jpg truncated cut short",
        "segment 1 min 00 s 10.0 s 60.0 %",
        "fit letterbox",
        "nested.deep 3",
    ):
        assert expected in text
    swatches = [tag.get("style") for tag in page.all("span") if tag.get("class") == "swatch"]
    assert swatches[:2] == ["background:#c8dcf0", "background:#0000ff"]


def test_the_page_needs_no_other_file_and_runs_its_own_script_alone(tmp_path):
    write_run(tmp_path / "out", [ok_row(tmp_path, "a.png", 0.1), error_row("https://example.com/a.jpg")])
    page = report_of(tmp_path / "out")
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "base"}
    assert [link["href"] for link in page.all("a")] == [(tmp_path / "a.png").as_uri()]  # nothing is loaded from there
    assert page.all("script") == [{}]
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith(f"script-src '{review_script().sha256}'")
    for _, attributes in page.tags:
        assert all(not name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert not attributes.keys() & {"srcset", "xlink:href"}
    assert "url(" not in storage.read_bytes(str(tmp_path / "out/runs/run-000001/report.html")).decode()


def test_hostile_names_and_messages_are_text(tmp_path):
    message = "</td></table><script>alert(2)</script>"
    rows = [ok_row(tmp_path, HOSTILE, 0.1), error_row(f"/in/{HOSTILE}", kind="<i>", message=message)]
    write_run(tmp_path / "out", rows, input=HOSTILE)
    page = report_of(tmp_path / "out")
    assert not {tag for tag, _ in page.tags} & {"i", "b"}
    assert len(page.all("script")) == 1
    assert page.all("img")[0]["alt"] == HOSTILE
    assert len(page.all("img")) == 2
    assert message in page.text
    assert page.text.count(HOSTILE) == 6  # title, heading, input, name, error and setting; the URI is cut in the middle


def test_pictures_and_tables_can_be_read_aloud(tmp_path):
    write_run(tmp_path / "out", [ok_row(tmp_path, "a.png", 0.1), error_row("b")])
    page = report_of(tmp_path / "out")
    assert page.all("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert all(header.get("scope") in ("row", "col") for header in page.all("th"))


def test_an_image_that_has_gone_or_changed_leaves_its_mask(tmp_path):
    rows = [ok_row(tmp_path, name, 0.1) for name in ("gone.png", "changed.png", "spoilt.png")]
    (tmp_path / "gone.png").unlink()
    storage.write_bytes(str(tmp_path / "changed.png"), encode_png(np.zeros((8, 9, 3), np.uint8)))
    storage.write_bytes(str(tmp_path / "spoilt.png"), b"not a picture")
    write_run(tmp_path / "out", rows)
    page = report_of(tmp_path / "out")
    assert all(image["alt"].startswith("Classes of") for image in page.all("img"))
    assert len(page.all("img")) == 3
    assert page.text.count("can't be read any more") == 2
    assert "9 × 8 now" in page.text


def test_images_are_read_where_they_are_and_named_as_they_are_stored(tmp_path):
    row = ok_row(tmp_path, "secret-signature.png", 0.1)
    write_run(tmp_path / "out", [{**row, "uri": "https://example.com/a.png"}])
    page = report_of(tmp_path / "out", read_uris={"https://example.com/a.png": row["uri"]})
    assert [image["alt"] for image in page.all("img")] == ["a.png", "Classes of a.png: sky, <b>sea</b>"]
    assert "secret-signature" not in page.text


def test_many_errors_are_counted_and_cut(tmp_path):
    rows = [error_row(f"/in/{i:04}.jpg", kind="empty" if i % 4 else "corrupt") for i in range(1200)]
    write_run(tmp_path / "out", rows)
    page = report_of(tmp_path / "out")
    text = " ".join(page.text.split())
    assert text.count("/in/") == 100
    assert "and 1 100 more" in text
    assert "900 empty 300 corrupt" in text
    assert "No image of this run has been labelled." in text
    assert not page.all("svg")


def test_a_run_without_summary_has_no_timings(tmp_path):
    write_run(tmp_path / "out", [ok_row(tmp_path, "a.png", 0.0)], summary=False)
    page = report_of(tmp_path / "out")
    assert "Timings" not in page.text
    assert "Images per hour" not in page.text


def test_credentials_in_settings_are_left_out():
    run = {"run_id": "run-000001", "config": {"input": "https://me:secret@host/a?token=secret"}}
    page = build_report(run=run, summary={}, totals=Totals(keep_uncertain=1, keep_errors=1), tiles=[])
    assert "https://host/a" in page
    assert "secret" not in page


def test_a_missing_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report(str(tmp_path), "run-000007")


def test_the_same_run_gives_the_same_page(tmp_path):
    write_run(tmp_path / "out", [ok_row(tmp_path, f"{i}.png", uncertainty=0.5) for i in range(4)])
    first, second = (storage.read_bytes(write_report(str(tmp_path / "out"), "run-000001")) for _ in range(2))
    assert first == second
