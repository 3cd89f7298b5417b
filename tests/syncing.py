"""What the tests of sync over HTTP share: a recorder, and the devices of either library as they look to the service."""

from __future__ import annotations

from typing import Any

from flask import Flask

from service.http import openapi
from tests.client import Person
from tests.recording import Recording
from tests.test_house import Recorder, complaints

Json = dict[str, Any]


class Melon:
    """What a device of WatermelonDB sends and gets."""

    def __init__(self, person: Person, recording: Recording) -> None:
        self.person, self.recording = person, recording
        self.timestamp: int | None = None

    def pull(self, **parameters: Any) -> Json:
        self.recording.catch_up()
        known = {"last_pulled_at": "null" if self.timestamp is None else self.timestamp, "schema_version": 1}
        answer = self.person.get("/v1/sync/watermelondb", query_string={**known, "migration": "null", **parameters})
        assert answer.status_code == 200, answer.json
        self.timestamp = answer.json["timestamp"]
        found: Json = answer.json["changes"]
        return found

    def push(self, status: int = 200, **tables: Json) -> Json:
        sent = self.person.post(f"/v1/sync/watermelondb?last_pulled_at={self.timestamp}", tables)
        assert sent.status_code == status, sent.json
        found: Json = sent.json
        return found


class Replica:
    """What a collection of RxDB sends and gets."""

    def __init__(self, person: Person, recording: Recording, type: str = "notes", version: int = 0) -> None:
        self.person, self.recording = person, recording
        self.path = f"/v1/sync/rxdb/{type}/{version}"
        self.checkpoint: Json = {"id": "", "lwt": 0}

    def page(self, limit: int = 100) -> list[Json]:
        """The documents of one answer; only of a page that has some a client keeps the checkpoint."""
        self.recording.catch_up()
        answer = self.person.get(f"{self.path}/pull", query_string={**self.checkpoint, "limit": limit})
        assert answer.status_code == 200, answer.json
        if answer.json["documents"]:
            self.checkpoint = answer.json["checkpoint"]
        else:
            assert answer.json["checkpoint"] == self.checkpoint
        found: list[Json] = answer.json["documents"]
        return found

    def pull(self, limit: int = 100) -> list[Json]:
        """The documents of as many answers as a client asks for."""
        found = page = self.page(limit)
        while len(page) >= limit:
            page = self.page(limit)
            found = [*found, *page]
        return found

    def send(self, *rows: tuple[Json, Json | None]) -> Any:
        """Push new states with what they are based on."""
        body = [{"newDocumentState": new, **({"assumedMasterState": old} if old else {})} for new, old in rows]
        return self.person.post(f"{self.path}/push", body)

    def push(self, *rows: tuple[Json, Json | None]) -> list[Json]:
        """The conflicts of a push."""
        answer = self.send(*rows)
        assert answer.status_code == 200, answer.json
        found: list[Json] = answer.json
        return found


def check_answers(app: Flask, client: Recorder) -> None:
    """Hold all answers that a client got against the API document."""
    document = openapi.document(app)
    seen = client.__dict__.get("seen", [])
    assert seen
    wrong = {
        (answer.request.method, answer.request.path, answer.status_code, complaint)
        for answer in seen
        for complaint in complaints(app, document, answer)
    }
    assert wrong == set()
