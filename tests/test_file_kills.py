"""Uploads whose processes are killed anywhere: a file is there when, and only when, its bytes are; in both stores.

`MADANG_FILE_KILLS` is how many die; `make chaos` kills 200 for each store.
"""

import hashlib
import os
import random
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from service.core.clock import now
from service.documents import Blob, File
from service.files import uploads
from service.files.blobs import Blobs
from service.files.check import faults
from service.files.uploads import Uploads
from tests.client import Person
from tests.forked_workers import transactions_ended_after, wait_for, working
from tests.object_store import stored_in
from tests.types import REGISTRY
from tests.upload_worker import body_of, unfinished

pytestmark = pytest.mark.real

KILLS = int(os.environ.get("MADANG_FILE_KILLS", "4"))
LIMIT = 2**40


@pytest.fixture(params=["mongodb", "s3"])
def store_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Every test here is one of both stores."""
    return {"FILES_URL": request.getfixturevalue("folder_url")} if request.param == "s3" else {}


@pytest.fixture(autouse=True)
def short_transactions(app: Flask) -> Iterator[None]:
    """Those of the dead do not keep others from the account for long."""
    with transactions_ended_after(1):
        yield


def test_wherever_an_upload_is_killed_a_file_is_whole_or_is_not_there(
    app: Flask, ada: Person, blobs: Blobs, store_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {f"SERVICE_{name}": text for name, text in store_settings.items()}
    with working(app, "tests.upload_worker", {**more, "SERVICE_FILES_ACCOUNT_BYTES": str(LIMIT)}) as workers:
        for kill in range(KILLS):
            if kill % 50 == 49:
                ada.log_in()  # before the token of now is over
            pid = workers.start(f"{ada.tokens['access_token']} never")
            wait_for(lambda pid=pid: f"ready {pid}\n" in workers.others)  # type: ignore[misc]
            time.sleep(random.uniform(0.02, 1.0))
            os.kill(pid, signal.SIGKILL)
        workers.start(f"{ada.tokens['access_token']} end")
        wait_for(lambda: "ended\n" in workers.others, lambda: sum(b["declared"] - b["length"] for b in unfinished()))
    heard = [line.split()[1:] for line in workers.others if line.startswith("file ")]
    assert [line for line in workers.others if not line.startswith(("file ", "ready ", "ended\n"))] == []
    files = {record["_id"]: record for record in File._get_collection().find()}
    for id, seed, size in heard:
        assert (files[id]["name"], files[id]["size"]) == (seed, int(size))
    for record in files.values():
        assert record["sha256"] == hashlib.sha256(body_of(record["name"], record["size"])).hexdigest()
    # What a request brought that was killed has its time; then nothing is left but files.
    Blob._get_collection().update_many({"file": None}, {"$set": {"expires_at": now()}})
    Uploads(REGISTRY, blobs, LIMIT).sweep()
    monkeypatch.setattr(uploads, "STRAY_FOR", timedelta())
    Uploads(REGISTRY, blobs, LIMIT).sweep_strays()
    assert list(faults(blobs, content=True)) == []
    assert Blob._get_collection().count_documents({}) == len(files) > 0
    if not blobs.in_mongodb:
        assert stored_in(blobs) == (len(files), len(files))
    assert ada.get("/v1/accounts/me").json["storage"]["used"] == sum(record["size"] for record in files.values())
