"""A MongoDB for the mutants that only a real one can kill."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = """
import sys, tempfile
from pathlib import Path
from service.serve import mongod

with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
    server = mongod.LocalServer.start(Path(folder) / "mongodb")
    print(server.uri, flush=True)
    sys.stdin.read()
    server.stop()
"""


@contextmanager
def started() -> Iterator[str]:
    """Give the URI of a server that runs as long as it is needed, in a process of its own.

    This process stays without the service's modules, for each trial imports them anew.
    """
    if uri := os.environ.get("SERVICE_MONGODB_URI"):
        yield uri
        return
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()
