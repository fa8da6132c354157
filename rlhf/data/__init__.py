"""Data: files and hub sets into prompts, demonstrations and rankings; chat templates and masks; tokenizers; batches."""
