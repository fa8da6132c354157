"""Programs in completions, run against tests in a sandbox. Imports nothing: what runs inside the sandbox starts here."""
