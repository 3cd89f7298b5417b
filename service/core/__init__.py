"""What everything stands on: errors, the log, metrics."""
