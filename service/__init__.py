"""Madang: accounts, tokens and app data for mobile apps, as JSON over HTTP."""
