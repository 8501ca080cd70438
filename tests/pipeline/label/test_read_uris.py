"""Lists of signed URLs: an interrupted run is finished only with the signatures, which nothing but the list has."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.job import LabelWork
from ddpm_seg.pipeline.label.plan import plan_label
from ddpm_seg.pipeline.label.read_uris import SIGNED, read_uri, with_signed
from ddpm_seg.runs.ledger import KnownRun, freeze_run
from ddpm_seg.runs.manifest import Manifest
from ddpm_seg.runs.plan import freeze_new
from jobs import label
from tests.tiny_bundle import tiny_bundle

URL = "https://h.example"
Config = Callable[..., LabelConfig]


@pytest.fixture
def config_of(tmp_path: Path) -> Config:
    """A call whose list has these entries."""
    save_bundle(tiny_bundle(), str(tmp_path / "model"))

    def config(*entries: str, output: str = "out") -> LabelConfig:
        listed = tmp_path / "list.csv"
        listed.write_text("\n".join(["url", *entries, ""]))
        places = {"input": str(listed), "output": str(tmp_path / output), "model": str(tmp_path / "model")}
        return LabelConfig(**places, check_versions=False)

    return config


def interrupted(config: LabelConfig) -> KnownRun:
    """A run that is planned, and nothing more, with an image to a shard."""
    work = LabelWork(plan_label(config))
    run = freeze_new(work.found.run, work.stored(), shard_size=1, chunk_size=1)
    assert run is not None
    return run


def signed(*names: str, by: str = "monday") -> list[str]:
    return [f"{URL}/{name}?signature={by}" for name in names]


def to_be_read(config: LabelConfig) -> list[str]:
    """What a call reads for the interrupted run."""
    work = LabelWork(plan_label(config))
    (run,) = work.found.run.unfinished
    return [one.read_uri for chunk in run.manifest.chunks() for one in pickle.loads(work.to_row(*chunk)["payload"])]


def test_an_interrupted_run_needs_its_signatures(config_of: Config, capsys: pytest.CaptureFixture[str]) -> None:
    monday = signed("1.png", "2.png", "3.png", "4.png")
    run = interrupted(config_of(*monday, f"{URL}/plain.png"))
    tuesday = config_of(*signed("2.png", "new.png"))
    expected = rf"run-000001 .* needs the list that has these: {URL}/1.png, {URL}/3.png, {URL}/4.png\. "
    with pytest.raises(ValueError, match=expected) as caught:
        plan_label(tuesday)
    assert "monday" not in str(caught.value)
    options = [f"--{name}={getattr(tuesday, name)}" for name in ("input", "output", "model")]
    assert label.main([*options, "--no-check-versions"]) == 2
    assert "needs the list" in capsys.readouterr().err
    fresh = signed("1.png", "2.png", "3.png", "4.png", by="tuesday")
    assert to_be_read(config_of(*fresh, *signed("new.png"))) == [*fresh, f"{URL}/plain.png"]
    known = run.manifest.items
    assert known[SIGNED.name].to_pylist() == [True] * 4 + [False]


def test_what_is_published_or_listed_without_a_signature_needs_none(config_of: Config) -> None:
    run = interrupted(config_of(*signed("1.png", "2.png", "3.png")))
    storage.write_bytes(run.layout.shard(0), b"rows of 1.png")
    reads = to_be_read(config_of(*signed("3.png"), f"{URL}/2.png"))
    assert reads == [f"{URL}/1.png", f"{URL}/2.png", *signed("3.png")]


def test_runs_without_the_mark_go_on_as_before(config_of: Config) -> None:
    """Runs of earlier releases, and those of which the tables store what is read."""
    found = plan_label(config_of(*signed("1.png"))).run
    run = interrupted(config_of(*signed("1.png"), output="new"))
    items = run.manifest.items.drop_columns(SIGNED.name)
    assert freeze_run(found.output, "labels", Manifest(info=run.info, items=items), 1) is not None
    assert to_be_read(config_of(*signed("2.png"))) == [f"{URL}/1.png"]
    assert SIGNED.name not in interrupted(config_of(f"{URL}/1.png", output="plain")).manifest.items.column_names


def test_images_in_a_container_are_read_as_it_is_listed() -> None:
    known = {"ftp://h/a.tar": "ftp://me:pass@h/a.tar", f"{URL}/b.png": f"{URL}/b.png?s=2"}
    uris = ["ftp://h/a.tar#x/0.png", "ftp://h/a.tar", f"{URL}/b.png", "ftp://h/c.tar#1", f"{URL}/d.png"]
    reads = ["ftp://me:pass@h/a.tar#x/0.png", "ftp://me:pass@h/a.tar", f"{URL}/b.png?s=2", *uris[3:]]
    assert [read_uri(uri, known) for uri in uris] == reads
    assert with_signed(pa.table({"uri": uris}), known)["signed"].to_pylist() == [True, True, True, False, False]
