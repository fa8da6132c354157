"""clusters/kuberay: every field is one its type has, and what each pod may do is as little as it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube.models.core_v1 import PersistentVolumeClaim
from lightkube.models.networking_v1 import NetworkPolicy

from tests.unit.clusters.kuberay_fields import RayCluster, RayJob
from tests.unit.clusters.strict_objects import mistakes

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "clusters" / "kuberay"
FILES = {
    "raycluster.yaml": RayCluster,
    "rayjob.yaml": RayJob,
    "networkpolicy.yaml": NetworkPolicy,
    "storage.yaml": PersistentVolumeClaim,
}
NAME = {"app.kubernetes.io/name": "rlhf"}


def read(name: str) -> dict[str, Any]:
    data = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def cluster_of(name: str) -> dict[str, Any]:
    spec = read(name)["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    assert isinstance(cluster, dict)
    return cluster


def pods(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each pod template of a file, by what it is for."""
    cluster = cluster_of(name)
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group["template"]
    if "submitterPodTemplate" in read(name)["spec"]:
        yield "submitter", read(name)["spec"]["submitterPodTemplate"]


CLUSTERS = ["raycluster.yaml", "rayjob.yaml"]
PODS = [pytest.param(role, pod, id=f"{name}-{role}") for name in CLUSTERS for role, pod in pods(name)]


def test_no_file_is_left_out() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_every_field_is_known_and_of_its_type(name: str) -> None:
    assert mistakes(read(name), FILES[name], name) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["spec", "authOption"], {"mode": "token"}, "RayClusterSpec has no such field"),
        (["spec", "authOptions", "mode"], "tokens", "Invalid enum value"),
        (["spec", "workerGroupSpecs", 0, "replicas"], "two", "Expected `int`"),
        (["spec", "workerGroupSpecs", 0, "template", "spec", "container"], [], "PodSpec has no such field"),
        (["spec", "headGroupSpec", "template", "spec", "securityContext", "runAsNonRot"], True, "no such field"),
        (["spec", "headGroupSpec", "rayStartParams", "num-cpus"], 0, "Expected `str`"),
    ],
)
def test_a_mistake_is_seen(path: list[Any], value: Any, said: str) -> None:
    data = read("raycluster.yaml")
    table: Any = data
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    assert said in " ".join(mistakes(data, RayCluster))


# --- what the pods may do --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "pod"), PODS)
def test_no_pod_is_root_or_can_become_it(role: str, pod: dict[str, Any]) -> None:
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["securityContext"]["runAsUser"] >= 1000
    for container in pod["spec"]["containers"]:
        assert container["securityContext"] == {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }


@pytest.mark.parametrize(("role", "pod"), PODS)
def test_only_the_autoscalers_pod_can_talk_to_kubernetes(role: str, pod: dict[str, Any]) -> None:
    assert pod["spec"].get("automountServiceAccountToken", True) is (role == "head")


@pytest.mark.parametrize(("role", "pod"), PODS)
def test_the_network_policy_is_about_every_pod(role: str, pod: dict[str, Any]) -> None:
    assert pod["metadata"]["labels"].items() >= NAME.items()
    policy = read("networkpolicy.yaml")["spec"]
    assert policy["podSelector"]["matchLabels"] == NAME
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}


def test_from_outside_only_the_operator_and_prometheus_come_in_each_at_one_port() -> None:
    policy = read("networkpolicy.yaml")["spec"]
    outside = [rule for rule in policy["ingress"] if rule["from"] != [{"podSelector": {"matchLabels": NAME}}]]
    assert [[port["port"] for port in rule["ports"]] for rule in outside] == [[8265], [8080]]
    for rule in outside:  # one entry with both selectors is "and"; two entries would be "or"
        assert [set(source) for source in rule["from"]] == [{"namespaceSelector", "podSelector"}]


@pytest.mark.parametrize("name", CLUSTERS)
def test_tokens_are_asked_for_and_no_secret_is_in_the_file(name: str) -> None:
    assert cluster_of(name)["authOptions"] == {"mode": "token"}
    assert not re.search(r"kind: Secret|stringData|password|AUTH_TOKEN", (FOLDER / name).read_text(encoding="utf-8"))


# --- what they are for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "at_first"), [("raycluster.yaml", 0), ("rayjob.yaml", 2)])
def test_rollout_workers_come_and_go_and_trainers_stay(name: str, at_first: int) -> None:
    cluster = cluster_of(name)
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert cluster["enableInTreeAutoscaling"] is True
    rollout, trainers = groups["rollout"], groups["trainers"]
    assert rollout["minReplicas"] == rollout["replicas"] == at_first < rollout["maxReplicas"]
    assert trainers["minReplicas"] == trainers["replicas"] == trainers["maxReplicas"]
    for group in (rollout, trainers):
        resources = group["template"]["spec"]["containers"][0]["resources"]
        assert resources["limits"] == resources["requests"]
        assert resources["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_ray_version_is_the_pinned_one(name: str) -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"ray=={cluster_of(name)['rayVersion']}" in pins


def test_the_two_clusters_differ_in_the_recipe_and_in_who_is_there_at_first() -> None:
    job, cluster = cluster_of("rayjob.yaml"), cluster_of("raycluster.yaml")
    for both in (job, cluster):
        both["workerGroupSpecs"][1].pop("replicas")
        both["workerGroupSpecs"][1].pop("minReplicas")
    head = job["headGroupSpec"]["template"]["spec"]
    assert head["containers"][0]["volumeMounts"].pop() == {"name": "recipe", "mountPath": "/recipe", "readOnly": True}
    assert head["volumes"].pop() == {"name": "recipe", "configMap": {"name": "my-run-recipe"}}
    assert job == cluster


def test_the_jobs_command_begins_a_run_or_continues_it(tmp_path: Path) -> None:
    import subprocess

    spec = read("rayjob.yaml")["spec"]
    assert "$" not in spec["entrypoint"]
    for begun in (False, True):
        (tmp_path / "recipe.yaml").write_text("") if begun else None
        command = spec["entrypoint"].replace("/runs/my-run", str(tmp_path)).replace("rlhf train", "echo")
        said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
        assert said.splitlines() == [
            f"/recipe/recipe.yaml --address auto --out {tmp_path}" + (" --resume" if begun else "")
        ]
    assert set(yaml.safe_load(spec["runtimeEnvYAML"])) == {"env_vars"}
