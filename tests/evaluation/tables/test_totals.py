import numpy as np
import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.data.schema import labels_schema
from ddpm_seg.evaluation.tables.totals import COLUMNS, Histogram, Totals, read_pictures, read_totals
from ddpm_seg.runs.parquet import encode
from ddpm_seg.tasks import Task

TASK = Task(name="two", class_names=("sky", "sea"), palette=((9, 9, 9), (0, 0, 255)))


def random_rows(count, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        if rng.random() < 0.2:
            error = {"status": "error", "error_type": str(rng.choice(["empty", "corrupt"])), "error_message": f"no {i}"}
            rows.append({"uri": f"/in/{seed}-{i:04}", **error})
            continue
        sea = float(rng.choice([0.0, 0.25, 1.0]))
        classes = [{"class_id": i, "fraction": f} for i, f in enumerate((1 - sea, sea)) if f]
        mask = {"bytes": f"mask {seed}-{i}".encode()}
        ok = {"status": "ok", "width": 3, "height": 2, "uncertainty": rng.gamma(2, 0.1), "classes": classes}
        rows.append({"uri": f"/in/{seed}-{i:04}", "mask": mask, **ok})
    return rows


def write(folder, rows, name):
    file = storage.join(str(folder), name)
    storage.write_bytes(file, encode(pa.Table.from_pylist(rows, schema=labels_schema(TASK))))
    return file


def test_totals_are_those_of_the_rows(tmp_path):
    parts = [random_rows(600, seed) for seed in range(3)]
    files = [write(tmp_path, rows, f"shard-{i}.parquet") for i, rows in enumerate(parts)]
    rows = [row for part in parts for row in part]
    ok = [row for row in rows if row["status"] == "ok"]
    broken = [row for row in rows if row["status"] == "error"]

    totals = read_totals(files, keep_uncertain=10, keep_errors=7)

    assert (totals.images, totals.ok, totals.errors) == (len(rows), len(ok), len(broken))
    assert totals.task == TASK
    for class_id in range(2):
        fractions = [c["fraction"] for row in ok for c in row["classes"] if c["class_id"] == class_id]
        assert totals.images_with[class_id] == len(fractions)
        assert totals.area[class_id] == pytest.approx(sum(fractions))
    ranked = sorted(ok, key=lambda row: -row["uncertainty"])[:10]
    assert [row.uri for row in totals.most_uncertain] == [row["uri"] for row in ranked]
    assert [row.uri for row in totals.error_rows] == [row["uri"] for row in broken[:7]]
    assert sum(totals.error_types.values()) == len(broken)
    assert totals.uncertainty.counts.sum() == len(ok)
    masks = {row.uri: mask for row, mask in read_pictures(totals.most_uncertain, "mask").items()}
    assert masks == {row["uri"]: row["mask"]["bytes"] for row in ranked}


def test_a_mask_is_read_only_where_it_is_shown(tmp_path):
    """Rows are added up from light columns, in any cut into batches."""
    assert "mask" not in COLUMNS
    table = pa.Table.from_pylist(random_rows(100), schema=labels_schema(TASK)).select(COLUMNS)
    whole, cut = (Totals(keep_uncertain=5, keep_errors=3) for _ in range(2))
    whole.add(table.to_batches()[0], file="f", first_row=0)
    first_row = 0
    for batch in table.to_batches(max_chunksize=7):
        cut.add(batch, file="f", first_row=first_row)
        first_row += len(batch)
    assert cut.most_uncertain == whole.most_uncertain
    assert cut.error_rows == whole.error_rows
    assert cut.error_types == whole.error_types
    assert cut.area == pytest.approx(whole.area)
    assert (cut.uncertainty.counts == whole.uncertainty.counts).all()


def test_masks_are_read_over_a_network_too(s3):
    rows = random_rows(20)
    file = write(s3(), rows, "shard-0.parquet")
    most_uncertain = read_totals([file], keep_uncertain=1, keep_errors=1).most_uncertain
    expected = max((row for row in rows if row["status"] == "ok"), key=lambda row: row["uncertainty"])
    assert list(read_pictures(most_uncertain, "mask").values()) == [expected["mask"]["bytes"]]


def test_nothing_to_add_up():
    totals = read_totals([], keep_uncertain=3, keep_errors=3)
    assert (totals.images, totals.ok, totals.most_uncertain) == (0, 0, [])


class TestHistogram:
    def test_counts_stay_exact_while_the_range_grows(self):
        values = np.concatenate([np.zeros(3), np.geomspace(1e-7, 5, 1000)])
        histogram = Histogram()
        for part in np.array_split(values, 9):
            histogram.add(part)
        bars, width = histogram.bars(32)
        assert 16 <= len(bars) <= 32
        assert bars.tolist() == np.histogram(values, bins=len(bars), range=(0, len(bars) * width))[0].tolist()

    def test_merging_is_adding(self):
        small, large = np.linspace(0, 0.01, 50), np.linspace(0, 4, 70)
        both = Histogram()
        both.add(np.concatenate([small, large]))
        for first, second in ((small, large), (large, small)):
            one, other = Histogram(), Histogram()
            one.add(first)
            other.add(second)
            one.merge(other)
            assert one.width == both.width
            assert (one.counts == both.counts).all()

    def test_quantiles(self):
        values = np.random.default_rng(0).gamma(2, 0.1, 5001)
        histogram = Histogram()
        histogram.add(values)
        for q in (0.1, 0.5, 0.9):
            assert histogram.quantile(q) == pytest.approx(np.quantile(values, q), abs=values.max() / 1000)
