"""The processes of the service and what they need to run."""
