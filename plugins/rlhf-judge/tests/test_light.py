"""Loading the plugin is light: neither openai nor torch, and no event loop, until somebody asks."""

from __future__ import annotations

import subprocess
import sys


def test_registration_loads_no_heavy_library():
    code = (
        "import sys, threading, rlhf_judge.registration as r\n"
        "from rlhf_judge.pointwise import JudgeConfig, PointwiseJudge\n"
        "PointwiseJudge(JudgeConfig(model='m', base_url='http://127.0.0.1:9/v1'))\n"
        "heavy = {'openai', 'httpx2', 'torch', 'ray', 'vllm'} & set(sys.modules)\n"
        "print(sorted(heavy), threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[] 1"
