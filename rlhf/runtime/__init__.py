"""The run an algorithm sees, and where it lives: in one process, or on Ray."""
