"""The files of cluster/ are valid for the tools that read them, and agree with each other and with the package."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

import ddpm_seg
from ddpm_seg.command_line.arguments import parse
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.pipeline.label.config import LabelConfig

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = ROOT.parent / "shared" / "kuberay"
CONFIGS = {"jobs.label": LabelConfig, "jobs.generate": GenerateConfig}
AUTOSCALER = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
CLOUDS, RAY_JOBS = ["aws", "gcp"], ["rayjob-label", "rayjob-generate"]


def read(name: str) -> Any:
    return yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())


def strict(schema: Any) -> Any:
    """`schema`, which Kubernetes prunes by, with unknown fields refused instead."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found["additionalProperties"] = False
    return found


@pytest.mark.parametrize("cloud", CLOUDS)
def test_autoscaler_files_are_valid(cloud: str) -> None:
    jsonschema.validate(read(cloud), AUTOSCALER)
    with pytest.raises(jsonschema.ValidationError, match="noed_types"):
        jsonschema.validate({**read(cloud), "noed_types": {}}, AUTOSCALER)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_fills_in_what_autoscaler_files_leave_out(cloud: str) -> None:
    config = prepare_config(read(cloud))  # as `ray up` does before it asks the cloud
    validate_config(config)
    assert set(config["available_node_types"]) == {"head", "spot", "on-demand"}
    assert config["docker"]["container_name"] == "ray"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_spot_machines_come_first_and_the_head_works_for_nobody(cloud: str) -> None:
    config = read(cloud)
    head, spot, on_demand = (config["available_node_types"][name] for name in ("head", "spot", "on-demand"))
    assert list(config["available_node_types"]) == ["head", "spot", "on-demand"]  # of equals the first is taken
    assert head["resources"] == {"CPU": 0}
    assert "--num-cpus=0" in config["head_start_ray_commands"][1]
    assert spot["resources"] == on_demand["resources"]
    assert "spot" in str(spot["node_config"]).lower()
    assert "spot" not in str(on_demand["node_config"]).lower()


@pytest.mark.parametrize("job", RAY_JOBS)
def test_ray_jobs_are_valid(job: str) -> None:
    if not KUBERAY.is_dir():
        pytest.skip("KubeRay's resource definitions are not on this machine")
    definition = yaml.safe_load((KUBERAY / "ray.io_rayjobs.yaml").read_text())
    (v1,) = (version for version in definition["spec"]["versions"] if version["name"] == "v1")
    validator = jsonschema.Draft202012Validator(strict(v1["schema"]["openAPIV3Schema"]))
    assert [error.message for error in validator.iter_errors(read(job))] == []
    wrong = read(job)
    wrong["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["imagine"] = "x"
    assert ["imagine" in error.message for error in validator.iter_errors(wrong)] == [True]


@pytest.mark.parametrize("job", RAY_JOBS)
def test_ray_jobs_run_what_there_is(job: str) -> None:
    spec = read(job)["spec"]
    python, dash_m, module, *flags = shlex.split(spec["entrypoint"])
    assert (python, dash_m) == ("python", "-m")
    mounted = "/etc/ddpm_seg/nightly.yaml"
    flags = [str(CLUSTER / "nightly.yaml") if flag == mounted else flag for flag in flags]
    config = parse(CONFIGS[module], flags, description="")
    assert config.output.startswith("s3://")
    head = spec["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    workers = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    if module == "jobs.label":
        assert config.num_actors == workers["replicas"]
        pod = head["template"]["spec"]
        assert mounted.startswith(pod["containers"][0]["volumeMounts"][0]["mountPath"])
        assert pod["volumes"][0]["configMap"]["name"] == "ddpm-seg-nightly"


def test_the_schedule_submits_the_ray_job_with_its_configuration() -> None:
    kustomization, cron = read("kustomization"), read("cronjob")
    files = {entry["name"]: entry["files"] for entry in kustomization["configMapGenerator"]}
    assert files == {"ddpm-seg-nightly": ["nightly.yaml"], "ddpm-seg-rayjob": ["rayjob-label.yaml"]}
    assert all((CLUSTER / name).is_file() for name in kustomization["resources"])
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    assert volume["configMap"]["name"] == "ddpm-seg-rayjob"
    assert container["args"][-1] == f"{container['volumeMounts'][0]['mountPath']}/rayjob-label.yaml"
    access = list(yaml.safe_load_all((CLUSTER / "access.yaml").read_text()))
    accounts = {document["metadata"]["name"] for document in access if document["kind"] == "ServiceAccount"}
    used = {pod["serviceAccountName"]}
    for job in RAY_JOBS:
        groups = read(job)["spec"]["rayClusterSpec"]
        used |= {one["template"]["spec"]["serviceAccountName"] for one in _groups(groups)}
    assert used == accounts


def test_versions_are_pinned_and_the_same_everywhere() -> None:
    package = (ROOT / "pyproject.toml").read_text()
    (ray_version,) = re.findall(r'"ray\[.*\]==(.*)"', package)
    texts = {path.name: path.read_text() for path in CLUSTER.iterdir()}
    for name, text in texts.items():
        assert set(re.findall(r"rayproject/ray:([\d.]+)-", text)) <= {ray_version}, name
        assert set(re.findall(r"rayVersion: (.*)", text)) <= {ray_version}, name
        assert set(re.findall(r"ddpm_seg:([\d.]+)", text)) <= {ddpm_seg.__version__}, name
        assert not re.search(r":latest|image: [\w./-]+$", text, re.MULTILINE), name
    pins = [
        set(re.findall(r"torch(?:vision)?==[\d.]+", texts[name])) for name in ("Dockerfile", "aws.yaml", "gcp.yaml")
    ]
    assert pins[0] == pins[1] == pins[2]
    assert len(pins[0]) == 2


def test_the_image_is_made_of_what_there_is_and_runs_as_nobody_special() -> None:
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[2:-1]]
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    assert lines[-1] == "USER ray"


def _groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
