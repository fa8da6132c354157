"""Ray Serve: a policy behind an OpenAI-compatible endpoint, rewards and graders over HTTP, and a page to compare."""

from __future__ import annotations

import os

# Read when Ray is imported: its processes then know each other as 127.0.0.1 and listen there alone, as they do where
# Ray has no clusters. On Linux they otherwise listen on all networks of the machine.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
