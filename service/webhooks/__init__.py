"""Webhooks: what has changed, told to servers of others over HTTP, as Standard Webhooks say."""
