"""The operator's computing alone: one process, no I/O but the reading of its inputs' JSON."""
