"""A Slurm of one script: `srun` starts its tasks here, `scontrol` writes down what it is asked; Ray and rlhf likewise.

The script under test meets them by their names on its path, so nothing in it knows.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SRUN = """#!/bin/bash
echo "srun ${*:1:5}" >>"$LOG"
for option in "$@"; do [[ $option == --ntasks=* ]] && tasks=${option#--ntasks=}; done
while [[ $1 == --* ]]; do shift; done
for ((rank = 1; rank < tasks; rank++)); do SLURM_PROCID=$rank "$@" & done
SLURM_PROCID=0 "$@"
code=$?
wait
exit $code
"""
RAY = """#!/bin/bash
echo "ray ${*:1:6} $RAY_AUTH_MODE $(stat -c %a "$RAY_AUTH_TOKEN_PATH") $(wc -c <"$RAY_AUTH_TOKEN_PATH")" >>"$LOG"
while [[ $1 != -- ]]; do shift; done
shift
[[ $SLURM_PROCID == 0 ]] || exit 0
"$@"
code=$?
echo "Command failed with return code $code"
exit $((code ? 1 : 0))
"""
# Says its arguments; begins a run folder; then ends with EXIT, or waits for a signal as a run does.
RLHF = """#!/bin/bash
echo "rlhf $*" >>"$LOG"
while (($#)); do [[ $1 == --out ]] && out=$2; shift; done
mkdir -p "$out" && touch "$out/recipe.yaml"
[[ -n $EXIT ]] && exit "$EXIT"
trap 'echo "rlhf has USR1" >>"$LOG"; sleep 0.2; exit 138' USR1
trap 'echo "rlhf has TERM" >>"$LOG"; sleep 0.2; exit 143' TERM
echo waiting >>"$LOG"
for ((i = 0; i < 300; i++)); do sleep 0.1; done
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >>"$LOG"
"""


class StandIn:
    """A folder that all nodes share, and a job of Slurm in it."""

    def __init__(self, folder: Path, script: Path) -> None:
        self.folder, self._script = folder, script
        self._log = folder / "log"
        (folder / "bin").mkdir()
        for name, text in {"srun": SRUN, "ray": RAY, "rlhf": RLHF, "scontrol": SCONTROL}.items():
            (folder / "bin" / name).write_text(text, encoding="utf-8")
            (folder / "bin" / name).chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """In which a shell finds the stand-ins."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.folder), "LOG": str(self._log), "EXIT": ""}

    def start(self, *words: str, ends: int | None = None, nodes: int = 1) -> subprocess.Popen[str]:
        """What Slurm does on the first node; the run ends with the code `ends`, or waits for a signal."""
        environment = (
            os.environ
            | self.environment
            | {
                "EXIT": "" if ends is None else str(ends),
                "SLURM_JOB_ID": "4711",
                "SLURM_JOB_NUM_NODES": str(nodes),
            }
        )
        return subprocess.Popen(
            ["bash", str(self._script), *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finished(self, *words: str, ends: int, nodes: int = 1) -> tuple[int, str]:
        """Exit code and output of a job whose run ends by itself."""
        job = self.start(*words, ends=ends, nodes=nodes)
        printed, _ = job.communicate(timeout=30)
        return job.returncode, printed

    @property
    def said(self) -> list[str]:
        """What the stand-ins were asked, in order."""
        return self._log.read_text(encoding="utf-8").splitlines() if self._log.is_file() else []

    def of(self, name: str) -> list[str]:
        return [line for line in self.said if line.split()[0] == name]
