"""One file per method: its config, its loss, its loop."""
