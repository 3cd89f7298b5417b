"""Files in a folder, by Starlette's own means: a body is written as it comes, and `FileResponse` sends it."""

import os
from pathlib import Path
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

FOLDER = Path(os.environ["BENCH_FILES"])


async def upload(request: Request) -> Response:
    """Write a body to a file."""
    name = uuid4().hex
    with (FOLDER / name).open("wb") as file:
        async for piece in request.stream():
            file.write(piece)
    return JSONResponse({"id": name}, 201)


async def download(request: Request) -> Response:
    """Send a file."""
    return FileResponse(FOLDER / request.path_params["id"])


app = Starlette(routes=[Route("/files", upload, methods=["POST"]), Route("/files/{id}", download)])
