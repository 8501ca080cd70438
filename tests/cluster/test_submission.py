"""Jobs as people run them: `ray job submit` to a cluster of `ray start` nodes, with a real S3 server for a bucket."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ddpm_seg import storage
from ddpm_seg.runs.layout import uris_under
from tests.chaos.comparison import Rows, compare, read_rows
from tests.chaos.pictures import write_model, write_pictures
from tests.chaos.subject import SUBJECTS, Subject
from tests.cluster.ray_nodes import PATIENCE_SECONDS, RayNodes, ray_nodes

pytestmark = pytest.mark.slow

LABEL, GENERATE = SUBJECTS["label"], SUBJECTS["generate"]
RUN = "run-000001"


@pytest.fixture(scope="module")
def nodes(s3_endpoint: object) -> Iterator[RayNodes]:
    """Three nodes: a head without work and two that work."""
    with ray_nodes(workers=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def prefix(s3: Callable[[], str]) -> str:
    prefix = s3()
    write_pictures(f"{prefix}/in", LABEL.images, seed=1)
    write_model(f"{prefix}/model")
    return prefix


def command(subject: Subject, prefix: str, output: str) -> list[str]:
    return ["python", "-m", f"jobs.{subject.name}", *subject.arguments(prefix, output, ())]


@pytest.mark.parametrize("subject", [GENERATE, LABEL], ids=lambda subject: subject.name)
def test_a_stopped_job_is_resubmitted_and_goes_on_though_a_node_is_lost(
    nodes: RayNodes, prefix: str, subject: Subject
) -> None:
    quiet, disturbed = f"{prefix}/{subject.name}-quiet", f"{prefix}/{subject.name}"
    nodes.submit(*command(subject, prefix, quiet))
    reference = read_rows(quiet, subject.table)
    assert len(reference) == subject.images
    assert_counted(nodes, subject, reference)

    first = nodes.submit(*command(subject, prefix, disturbed), wait=False)
    wait_until(lambda: len(uris_under(f"{disturbed}/_chunks")) >= 3, "no chunk was written")
    nodes.stop_job(first)
    assert nodes.wait(first) == "STOPPED"
    assert not storage.exists(f"{disturbed}/runs/{RUN}/report.html")

    second = nodes.submit(*command(subject, prefix, disturbed), wait=False)
    wait_until(lambda: f"{RUN}: " in nodes.log(second), "the second attempt does not work")
    if subject is LABEL:
        nodes.lose_worker()
    assert nodes.wait(second) == "SUCCEEDED", nodes.log(second)
    assert f"finishing {RUN}, which was interrupted" in nodes.log(second)
    verdict = compare(reference, disturbed, subject)
    assert (verdict.lost, verdict.doubled, verdict.differing, verdict.problems) == (0, 0, 0, ())


def assert_counted(nodes: RayNodes, subject: Subject, reference: Rows) -> None:
    """Prometheus would get the run's images by outcome, its uncertainties and where its time went."""
    images, at_most, seconds = Counter[str](), Counter[float](), Counter[str]()
    config_hash = next(iter(reference.values()))["config_hash"]
    for family in text_string_to_metric_families(nodes.metrics()):
        for sample in family.samples:
            if (sample.labels.get("run_id"), sample.labels.get("config_hash")) != (RUN, config_hash):
                continue
            if sample.name == "ray_ddpm_seg_images_total":
                images[sample.labels["outcome"]] += int(sample.value)
            elif sample.name == "ray_ddpm_seg_stage_seconds_total":
                seconds[sample.labels["stage"]] += sample.value
            elif sample.name == "ray_ddpm_seg_uncertainty_bucket":
                at_most[float(sample.labels["le"])] += int(sample.value)
    assert images == Counter(row["error_type"] or row["status"] for row in reference.values())
    labelled = [row["uncertainty"] for row in reference.values() if row["status"] == "ok"]
    assert len(at_most) > 5
    assert at_most == Counter({top: sum(value <= top for value in labelled) for top in at_most})
    assert seconds["segment"] > 0
    assert seconds["write"] > 0
    assert (seconds["read"] > 0) == (subject is LABEL)


def wait_until(condition: Callable[[], object], message: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, message
        time.sleep(0.1)
