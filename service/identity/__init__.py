"""People and their sessions: passwords, tokens, limits."""
