"""Programs in completions, run against tests in a sandbox. Imports nothing, since what runs inside starts here."""
