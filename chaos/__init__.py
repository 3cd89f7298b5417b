"""The service on a three-member replica set while members, workers and whole servers are killed: `make chaos`."""
