"""clusters/ray-up: what `ray up` takes, by Ray's own schema and checks, and nothing that is open to the world."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "clusters" / "ray-up"
FILES = sorted(path.name for path in FOLDER.iterdir())
COMMANDS = ("initialization_commands", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands")


def read(name: str) -> dict[str, Any]:
    data = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def ray_schema() -> dict[str, Any]:
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    assert isinstance(schema, dict)
    return schema


@pytest.mark.parametrize("name", FILES)
def test_rays_schema_takes_it(name: str) -> None:
    jsonschema.validate(read(name), ray_schema())


@pytest.mark.parametrize("name", FILES)
def test_rays_own_checks_take_it(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(read(name)))  # the schema takes keys that this does not
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


def test_a_mistake_is_seen() -> None:
    wrong = read("aws.yaml") | {"max_worker": 4}
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        jsonschema.validate(wrong, ray_schema())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("key", COMMANDS)
def test_the_shell_understands_each_command(name: str, key: str) -> None:
    for command in read(name)[key]:
        subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize("name", FILES)
def test_every_ray_asks_for_the_token(name: str) -> None:
    config = read(name)
    starts = [config[key][-1] for key in COMMANDS[2:]]
    assert all("RAY_AUTH_MODE=token" in command and "ray start" in command for command in starts)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    assert "--dashboard-host=127.0.0.1" in shlex.split(starts[0])
    assert config["auth"]["ssh_user"] != "root"


def test_on_aws_one_address_alone_may_knock() -> None:
    opened = read("aws.yaml")["provider"]["security_group"]["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in opened] == [(22, 22)]
    assert all(source["CidrIp"].endswith("/32") for rule in opened for source in rule["IpRanges"])
    for kind in read("aws.yaml")["available_node_types"].values():
        assert kind["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}
        assert all(disk["Ebs"]["Encrypted"] for disk in kind["node_config"]["BlockDeviceMappings"])


def test_on_premises_every_machine_is_taken() -> None:
    from ray.autoscaler._private.util import prepare_config

    (node,) = prepare_config(read("on-premises.yaml"))["available_node_types"].values()
    assert node["min_workers"] == node["max_workers"] == len(read("on-premises.yaml")["provider"]["worker_ips"])


@pytest.mark.parametrize("name", FILES)
def test_what_must_be_filled_in_is_marked(name: str) -> None:
    """Addresses of documentation (RFC 5737) and names of nothing stand for the reader's own."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    stand_ins = [i for i, line in enumerate(lines) if re.search(r"192\.0\.2\.|-0{17}", line)]
    assert stand_ins
    for i in stand_ins:
        assert any("YOURS" in line for line in lines[max(0, i - 3) : i + 1]), lines[i]
