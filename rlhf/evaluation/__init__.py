"""Is the model better, and how sure are we: 3H suites, intervals, and the page that shows a run."""
