"""How fast it is: ours and the peers on the same work in one run (`python -m benchmarks.throughput --help`)."""
