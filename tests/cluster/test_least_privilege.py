"""The files of cluster/ admit no outsiders, give each part only the rights it needs, and repeat only what may pass."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

try:
    import tomllib
except ModuleNotFoundError:  # before Python 3.11; pytest brings it
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
RAY_JOBS, CLOUDS = ["rayjob-label", "rayjob-generate"], ["aws", "gcp"]
DIGEST = re.compile(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}")


def read(name: str) -> Any:
    return yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())


def read_all(name: str) -> list[Any]:
    return list(yaml.safe_load_all((CLUSTER / f"{name}.yaml").read_text()))


def ray_pods(job: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(part, pod template) of every pod that a RayJob makes."""
    spec = read(job)["spec"]
    yield "submit", spec["submitterPodTemplate"]
    yield "head", spec["rayClusterSpec"]["headGroupSpec"]["template"]
    for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
        yield "worker", group["template"]


def all_pods() -> list[tuple[str, dict[str, Any]]]:
    nightly = read("cronjob")["spec"]["jobTemplate"]["spec"]["template"]
    return [("nightly", nightly), *(pod for job in RAY_JOBS for pod in ray_pods(job))]


# --- Ray's own authentication ---


@pytest.mark.parametrize("job", RAY_JOBS)
def test_kuberay_clusters_ask_for_a_token(job: str) -> None:
    assert read(job)["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_autoscaler_clusters_ask_for_the_token_that_every_node_is_given(cloud: str) -> None:
    config = read(cloud)
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"


# --- pods ---


@pytest.mark.parametrize(("part", "pod"), all_pods())
def test_pods_are_restricted(part: str, pod: dict[str, Any]) -> None:
    """Kubernetes' own "restricted" standard, and a root that nothing writes to."""
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is (part == "nightly")  # the only one that talks to Kubernetes
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        places = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        if part != "nightly":  # which writes nothing
            assert places["/tmp"] == {"name": "tmp", "emptyDir": {}}
            assert {"name": "HOME", "value": "/tmp"} in container["env"]
        assert all("hostPath" not in volume for volume in volumes.values())


def test_each_part_has_an_account_of_its_own_without_a_token() -> None:
    accounts = [one for one in read_all("access") if one["kind"] == "ServiceAccount"]
    assert all(account["automountServiceAccountToken"] is False for account in accounts)
    assert {account["metadata"]["name"] for account in accounts} == {
        "ddpm-seg-head", "ddpm-seg-worker", "ddpm-seg-submitter",
    }  # fmt: skip
    used = {part: pod["spec"]["serviceAccountName"] for part, pod in all_pods()}
    assert used == {
        "nightly": "ddpm-seg-submitter", "submit": "ddpm-seg-submitter",
        "head": "ddpm-seg-head", "worker": "ddpm-seg-worker",
    }  # fmt: skip
    (role,) = (one for one in read_all("access") if one["kind"] == "Role")
    assert role["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]}]
    cloud_roles = [account["metadata"].get("annotations") for account in accounts]
    assert cloud_roles[0] != cloud_roles[1]
    assert cloud_roles[2] is None


def test_images_are_named_by_their_digest() -> None:
    images = [container["image"] for _, pod in all_pods() for container in pod["spec"]["containers"]]
    for cloud in CLOUDS:
        images += [read(cloud)["docker"][name] for name in ("head_image", "worker_image")]
    images += re.findall(r"^FROM (.*)$", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE)
    assert len(images) >= 12
    assert [image for image in images if not DIGEST.fullmatch(image)] == []


# --- the network ---


def test_every_pod_has_a_policy_that_refuses_what_it_does_not_name() -> None:
    assert "network-policy.yaml" in read("kustomization")["resources"]
    policies = read_all("network-policy")
    for _, pod in all_pods():
        labels = pod["metadata"]["labels"].items()
        (policy,) = (one for one in policies if one["spec"]["podSelector"]["matchLabels"].items() <= labels)
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            assert all("ipBlock" not in peer for peer in rule["from"])  # pods alone, none from outside
        for rule in policy["spec"]["egress"]:
            for peer in rule.get("to", []):
                if "ipBlock" in peer:
                    assert peer["ipBlock"]["except"] == ["169.254.0.0/16"]  # metadata services
                    assert {port["port"] for port in rule["ports"]} <= {443, 6443}


# --- machines ---


def machines(cloud: str) -> dict[str, dict[str, Any]]:
    return {name: kind["node_config"] for name, kind in read(cloud)["available_node_types"].items()}


def test_aws_machines_have_no_open_port_and_the_newer_metadata_service() -> None:
    for name, machine in machines("aws").items():
        assert machine["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
        assert machine["SecurityGroupIds"], name  # else Ray makes one with port 22 open to the world
        assert machine["SubnetIds"]
        role = "ddpm-seg-head" if name == "head" else "ddpm-seg-worker"
        assert machine["IamInstanceProfile"] == {"Name": role}
    config = read("aws")
    assert config["provider"]["use_internal_ips"] is True
    assert "aws ssm start-session" in config["auth"]["ssh_proxy_command"]


def test_google_machines_have_no_address_and_accounts_apart() -> None:
    for name, machine in machines("gcp").items():
        (interface,) = machine["networkInterfaces"]
        assert "accessConfigs" not in interface  # which would be an address that the world can reach
        assert interface["subnetwork"].endswith("/subnetworks/ddpm-seg")  # in the default network port 22 is open
        (account,) = machine["serviceAccounts"]
        assert account["email"].startswith("ddpm-seg-head@" if name == "head" else "ddpm-seg-worker@")
    config = read("gcp")
    assert config["provider"]["use_internal_ips"] is True
    assert "start-iap-tunnel" in config["auth"]["ssh_proxy_command"]


def statements(name: str) -> list[dict[str, Any]]:
    return json.loads((CLUSTER / f"{name}.json").read_text())["Statement"]


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


# What takes no narrower resource: looking at machines, and Systems Manager's channels to the machine itself.
ANY_RESOURCE = ("ec2:Describe*", "ssm:UpdateInstanceInformation", "ssmmessages:*")


@pytest.mark.parametrize("name", ["aws-head-policy", "aws-bucket-policy"])
def test_aws_policies_allow_named_actions_on_named_resources(name: str) -> None:
    for statement in statements(name):
        for action in as_list(statement["Action"]):
            assert "*" not in action
            wide = "*" in as_list(statement["Resource"])
            assert not wide or any(fnmatch.fnmatch(action, pattern) for pattern in ANY_RESOURCE), statement


def test_aws_workers_get_at_the_bucket_alone_and_write_tables_alone() -> None:
    actions = {action for one in statements("aws-bucket-policy") for action in as_list(one["Action"])}
    assert {action.split(":")[0] for action in actions} == {"s3"}
    bucket = read("nightly")["input"].split("/")[2]
    for statement in statements("aws-bucket-policy"):
        for resource in as_list(statement["Resource"]):
            assert resource.startswith(f"arn:aws:s3:::{bucket}")
            if {"s3:PutObject", "s3:DeleteObject"} & set(as_list(statement["Action"])):
                assert resource.split("/", 1)[1] in ("labels/*", "synthetic/*")


def test_aws_head_starts_and_ends_its_own_machines_alone() -> None:
    by_action: dict[str, list[dict[str, Any]]] = {}
    for statement in statements("aws-head-policy"):
        for action in as_list(statement["Action"]):
            by_action.setdefault(action, []).append(statement)
    (end,) = by_action["ec2:TerminateInstances"]
    assert end["Condition"] == {"StringEquals": {"aws:ResourceTag/ray-cluster-name": read("aws")["cluster_name"]}}
    (give,) = by_action["iam:PassRole"]
    assert give["Resource"].endswith(":role/ddpm-seg-worker")
    assert give["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    # Whatever is started must be called after the cluster; all else is parts of it.
    started = [(one["Resource"], one.get("Condition")) for one in by_action["ec2:RunInstances"]]
    named = [condition for resource, condition in started if "instance/*" in str(resource)]
    assert named == [{"StringEquals": {"aws:RequestTag/ray-cluster-name": "ddpm-seg"}}]
    group, subnet = (machines("aws")["head"][key][0] for key in ("SecurityGroupIds", "SubnetIds"))
    parts = next(resource for resource, condition in started if condition is None)
    assert [part for part in parts if part.endswith(f"/{group}")]
    assert [part for part in parts if part.endswith(f"/{subnet}")]


def test_google_head_manages_machines_and_nothing_else() -> None:
    permissions = read("gcp-head-role")["includedPermissions"]
    assert all(permission.startswith("compute.") for permission in permissions)
    assert not [
        one for one in permissions if re.search(r"firewall|setIamPolicy|projects\.|networks\.(create|update)", one)
    ]


# --- what is repeated ---


@pytest.mark.parametrize("job", RAY_JOBS)
def test_kuberay_repeats_nothing_by_itself(job: str) -> None:
    """It cannot tell statuses apart: submit.py does, and tests/cluster/test_submit.py tries it."""
    spec = read(job)["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["submitterConfig"] == {"backoffLimit": 0}


def test_the_schedule_repeats_a_submitter_that_is_evicted_and_no_status_of_a_job() -> None:
    job = read("cronjob")["spec"]["jobTemplate"]["spec"]
    ignored, failed = job["podFailurePolicy"]["rules"]
    assert ignored == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    assert failed == {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 3, 4, 5]}}
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # which a podFailurePolicy asks for


# --- what is installed ---


def locked() -> dict[str, str]:
    text = (CLUSTER / "requirements.lock").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def test_every_locked_file_has_its_hash_and_none_its_place() -> None:
    text = (CLUSTER / "requirements.lock").read_text()
    code = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    entries = re.split(r"\n(?=\S)", code.strip())
    assert len(entries) == len(locked()) > 60
    for entry in entries:
        assert re.fullmatch(r"[\w.-]+==\S+( ; .*)? \\(\n    --hash=sha256:[0-9a-f]{64}( \\)?)+", entry), entry[:200]
    assert not re.search(r"://|index-url|find-links", code)


def test_the_lock_has_what_the_package_asks_for() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, build = told["project"], told["build-system"]["requires"]
    extras = [one for name in ("s3", "gcs", "https") for one in project["optional-dependencies"][name]]
    versions = locked()
    for text in [*project["dependencies"], *extras, *build]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)], prereleases=True), text


def test_nothing_is_installed_but_what_is_locked() -> None:
    texts = [(CLUSTER / name).read_text() for name in ("Dockerfile", "aws.yaml", "gcp.yaml")]
    for text in texts:
        installs = re.findall(r"pip install .*", text)
        assert installs
        for install in installs:
            assert "--require-hashes -r" in install or "--no-deps --no-build-isolation" in install, install
        for name, version in re.findall(r"(torch(?:vision)?)==([\d.]+\d)", text):
            assert locked()[name] == version
