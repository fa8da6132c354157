"""What `python -m benchmarks.graders` measures."""
