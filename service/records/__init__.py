"""The door for writes of records, their deletion and their references."""
