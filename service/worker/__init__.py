"""The worker: does what no request waits for, each piece of work in one process at a time."""
