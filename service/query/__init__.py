"""From a query string to a Query."""
