"""What a run will need, worked out before it starts: memory, devices, time, storage. From shapes alone: no weights."""
