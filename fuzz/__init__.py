"""Bad input by machine: what the API document allows and forbids over HTTP, and any bytes for the parsers."""
