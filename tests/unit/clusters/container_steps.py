"""The steps of a container file, taken in a folder that is made the root: what a builder of images does, in short.

Needs root, `debootstrap` and Debian's packages. The base image is a bare Debian with its own Python.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What a builder starts with."""
ROOT = Path(__file__).resolve().parents[3]


def steps(containerfile: Path) -> list[tuple[str, str]]:
    """Instruction and argument of each step, continued lines as one."""
    text = re.sub(r"^\s*#.*\n", "", containerfile.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.strip().partition(" ") for line in lines) if word]


@dataclass
class Built:
    """A root as far as it has been built."""

    folder: Path
    arguments: dict[str, str]
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    workdir: str = "/"
    command: list[str] = field(default_factory=list)

    def take(self, word: str, rest: str) -> None:
        """One step."""
        if word == "ARG":
            name, _, value = rest.partition("=")
            self.arguments.setdefault(name, value)
        elif word == "ENV":
            name, _, value = rest.partition("=")
            self.environment[name] = value
        elif word == "WORKDIR":
            self.workdir = rest
            self._inside(rest).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            self.user = rest
        elif word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                self._copy(ROOT / source, self._inside(f"{self.workdir}/{target}"), source)
        elif word == "RUN":
            self.run(["/bin/sh", "-c", rest])
        elif word == "CMD":
            self.command = json.loads(rest)
        else:
            assert word == "FROM", f"no such step here: {word}"

    def run(self, command: list[str]) -> str:
        """In the root, as its user, in its folder and environment."""
        home = "/root" if self.user == "0:0" else "/home/rlhf"
        told = {"PATH": PATH, "HOME": home} | self.arguments | self.environment
        script = f'cd "{self.workdir}" && exec "$@"'
        chroot = [shutil.which("chroot") or "chroot", f"--userspec={self.user}", str(self.folder)]
        words = [*chroot, "/bin/sh", "-c", script, "sh", *command]
        done = subprocess.run(words, env=told, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-4000:])
        return done.stdout

    def _inside(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    def _copy(self, source: Path, target: Path, name: str) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copy2(source, target / Path(name).name)


@contextmanager
def bare_root(folder: Path, release: str = "bookworm") -> Iterator[Path]:
    """A Debian with Python, which reaches the same packages as this machine does."""
    packages = "ca-certificates,python3"
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={packages}", release, str(folder)],
        check=True,
        capture_output=True,
    )
    for config in ("pip.conf", "resolv.conf", "ssl/certs/ca-certificates.crt"):
        if (Path("/etc") / config).is_file():
            shutil.copyfile(Path("/etc") / config, folder / "etc" / config)
    own = Path.home() / ".config" / "pip" / "pip.conf"
    if own.is_file():
        shutil.copyfile(own, folder / "etc" / "pip.conf")
    mounted = []
    try:
        for source in ["proc", *map(str, _local_packages())]:
            target = folder / source.lstrip("/")
            target.mkdir(parents=True, exist_ok=True)
            how = ["-t", "proc"] if source == "proc" else ["--bind", "-o", "ro"]
            subprocess.run(["mount", *how, source, str(target)], check=True)
            mounted.append(target)
        yield folder
    finally:
        for target in reversed(mounted):
            subprocess.run(["umount", "--lazy", str(target)], check=True)


def _local_packages() -> list[Path]:
    """Folders in which this machine's pip looks for packages."""
    listed = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    named = {Path(found) for found in re.findall(r"(?:file://)?(/[^\s']+)", listed)}
    # An index refers to the files beside it.
    return sorted({path.parent if path.name == "simple" else path for path in named if path.is_dir()})
