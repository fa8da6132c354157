"""Where a run's figures go: metrics.jsonl, samples.jsonl, summary.json, trackers, and the progress view."""
