"""`python -m rlhf`: the command line where the entry point is not on the path, as in a Ray job."""

from __future__ import annotations

from rlhf.cli import main

main()
