"""clusters/kuberay against the schemas that KubeRay itself installs in a cluster.

They are 2 MB and KubeRay's, and so not in this repository. `RLHF_KUBERAY_CRDS=FOLDER` names a folder with
`ray.io_rayclusters.yaml` and `ray.io_rayjobs.yaml` of a release (in its sources: `helm-chart/kuberay-operator/crds`);
else they are looked for beside the checkout, in `kuberay/` of the folder of data.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.unit.clusters.test_kubernetes_files import read

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a schema is 900 kB
CRDS = {"raycluster.yaml": "ray.io_rayclusters.yaml", "rayjob.yaml": "ray.io_rayjobs.yaml"}


def schema_of(crd: Path) -> dict[str, Any]:
    """The schema of version v1, with every field that is not in it refused."""
    versions = yaml.load(crd.read_text(encoding="utf-8"), LOADER)["spec"]["versions"]
    found = [version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1"]
    assert found, f"{crd} has no version v1"
    closed = _closed(found[0])
    closed["properties"]["metadata"] = True  # of any object, and not KubeRay's
    return closed


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items() if key not in ("default", "format")}
    if schema.get("x-kubernetes-int-or-string"):
        closed["type"] = ["integer", "string"]
    is_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


@pytest.fixture(scope="module")
def crds() -> Path:
    from tests.conftest import find_data_dir

    data = find_data_dir()
    named = os.environ.get("RLHF_KUBERAY_CRDS")
    folder = Path(named) if named else data / "kuberay" if data else None
    if named is None and (folder is None or not folder.is_dir()):
        pytest.skip("KubeRay's schemas are not here: name their folder in RLHF_KUBERAY_CRDS")
    assert folder is not None
    return folder


@pytest.mark.parametrize("name", CRDS)
def test_a_file_is_as_kuberay_wants_it(name: str, crds: Path) -> None:
    validator = Draft202012Validator(schema_of(crds / CRDS[name]))
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(read(name))] == []


@pytest.mark.parametrize("name", CRDS)
def test_a_field_kuberay_does_not_know_is_seen(name: str, crds: Path) -> None:
    validator = Draft202012Validator(schema_of(crds / CRDS[name]))
    wrong = read(name)
    (wrong["spec"].get("rayClusterSpec") or wrong["spec"])["headGroupSpec"]["template"]["spec"]["container"] = []
    assert [error.validator for error in validator.iter_errors(wrong)] == ["additionalProperties"]
