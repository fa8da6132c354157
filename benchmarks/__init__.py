"""What it costs and whether it learns: comparisons over seeds, their results, and a log of what did not help."""
