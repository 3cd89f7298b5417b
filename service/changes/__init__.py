"""The order of all changes: who records it, who reads it."""
