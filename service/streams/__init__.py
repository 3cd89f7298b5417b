"""What takes long and waits, for many clients in one process: an ASGI app without Flask."""
