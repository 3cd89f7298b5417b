"""Clients that upload to streams of their own process: `python -m tests.upload_worker`, as `tests.outbox_worker`.

Each is told a token, and whether to go on for ever or to end what others have begun. It prints the id, the seed and the
size of each file of which it has heard that it is made.
"""

import base64
import hashlib
import os
import random
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import mongoengine

from service.core.log import Lines
from service.documents import Blob
from service.files import resumable, s3
from service.files.stores import store_of
from service.mongo import connection
from service.streams.app import Streams
from tests.outbox_worker import fork_workers
from tests.streaming import Sent, Served, served
from tests.types import REGISTRY

HELD = timedelta(seconds=0.3)
"""How long somebody who was killed keeps others out of an upload."""
IMPORTED = s3
"""What a process of S3 begins with, once for all that are forked."""
TUS = {"tus_resumable": "1.0.0"}
PART = {"content_type": "application/offset+octet-stream"}
AGAIN = frozenset({409, 423, 503})
"""What tells that somebody killed still has something, or that another try may go through."""


def body_of(seed: str, size: int) -> bytes:
    return hashlib.shake_128(seed.encode()).digest(size)


def unfinished() -> list[dict[str, Any]]:
    return list(Blob._get_collection().find({"declared": {"$exists": True}, "file": None, "orphaned_at": None}))


class Uploader:
    """Uploads files, and goes on with what another one has begun."""

    def __init__(self, streams: Served, token: str, step: int) -> None:
        self.streams, self.headers, self.step = streams, {"authorization": f"Bearer {token}"}, step

    def tell(self, id: str, name: str, size: int) -> None:
        os.write(1, f"file {id} {name} {size}\n".encode())

    def begin(self) -> None:
        """Make a file by one request, or begin an upload."""
        seed = f"{random.getrandbits(48):x}"
        size = random.choice((5, 50_000, self.step, self.step + 70_000, 2 * self.step + 9))
        if size < self.step:
            named = {**self.headers, "content_disposition": f'attachment; filename="{seed}"', "content_type": "a/b"}
            sent = self.streams.post("/v1/files", {}, body_of(seed, size), **named)
            if sent.status == 201:
                self.tell(sent.json["id"], seed, size)
            else:
                assert sent.status in AGAIN, sent.body
            return
        name = base64.b64encode(seed.encode()).decode()
        told = {"upload_length": str(size), "upload_metadata": f"filename {name}"}
        sent = self.streams.begin_body("POST", "/v1/uploads", {}, b"", **self.headers, **TUS, **told).result(60)
        assert sent.status in AGAIN | {201}, sent.body

    def go_on(self, blob: dict[str, Any]) -> None:
        """Send some more of an upload, or all that is left."""
        path, size, seed = f"/v1/uploads/{blob['_id']}", blob["declared"], blob["content"]["name"]
        head = self.streams.ask("HEAD", path, "", **self.headers, **TUS)
        if head.status != 200:
            assert head.status in AGAIN, head.body
            return
        offset = int(head.headers["upload-offset"])
        stop = random.choice((size, min(size, offset + random.randrange(1, self.step + 100_000))))
        sent = self.patch(path, offset, body_of(seed, size)[offset:stop])
        if sent.status == 204 and "x-file-id" in sent.headers:
            self.tell(sent.headers["x-file-id"], seed, size)
        assert sent.status in AGAIN | {204}, sent.body

    def patch(self, path: str, offset: int, body: bytes) -> Sent:
        asked = {**self.headers, **TUS, **PART, "upload_offset": str(offset)}
        return self.streams.begin_body("PATCH", path, {}, body, **asked).result(60)


def work(config: dict[str, Any], point: str) -> None:
    """Upload until the end, or until nothing is left that was begun."""
    token, ends = point.split()
    mongoengine.connect(**connection.options(config))
    resumable.HELD_FOR = HELD
    random.seed()
    with served(Streams(config, REGISTRY, lambda: False, {}, Lines(config))) as streams:
        uploader = Uploader(streams, token, store_of(config).step)
        os.write(1, f"ready {os.getpid()}\n".encode())
        if ends == "end":
            uploader.begin()
        for blob in going_on(ends == "end"):
            if blob is None:
                uploader.begin()
            else:
                uploader.go_on(blob)
    os.write(1, b"ended\n")


def going_on(ends: bool) -> Iterator[dict[str, Any] | None]:
    """Yield what to go on with, or None for something new."""
    while True:
        left = unfinished()
        if ends and not left:
            return
        if ends or (left and random.random() < 0.7):
            yield random.choice(left)
            time.sleep(0.01)
        elif len(left) < 5:
            yield None


if __name__ == "__main__":
    fork_workers(work)
