"""What the tests hold in their hands: a phone, and a person signed in on one."""

from __future__ import annotations

import json
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.documents import Account
from service.documents.account import address_key

PASSWORD = "correct horse battery"


class Phone:
    """Sends requests as a mobile client does and checks what holds for every answer."""

    def __init__(self, client: FlaskClient, headers: dict[str, str] | None = None) -> None:
        self.client = client
        self.headers = headers or {}

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> TestResponse:
        headers = {**self.headers, **options.pop("headers", {})}
        if body is not None:
            options["json"] = body
        response = self.client.open(path, method=method, headers=headers, **options)
        assert response.headers["X-Request-ID"]
        if response.status_code >= 400 and method != "HEAD":
            assert response.content_type == "application/problem+json"
            assert response.json["status"] == response.status_code
        return response

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.send("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        return self.send("POST", path, body, **options)

    def put(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        return self.send("PUT", path, body, **options)

    def patch(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        return self.send("PATCH", path, body, **options)

    def delete(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        return self.send("DELETE", path, body, **options)

    def find(self, path: str = "/v1/notes", where: Any = None, **parameters: Any) -> TestResponse:
        """List with `where` as JSON and other query parameters."""
        if where is not None:
            parameters["where"] = json.dumps(where)
        return self.get(path, query_string=parameters)


class Person(Phone):
    """Somebody with an account, signed in."""

    id: str
    username: str
    tokens: dict[str, Any]

    @classmethod
    def sign_up(cls, client: FlaskClient, username: str, device: str | None = None) -> Person:
        person = cls(client)
        person.username = username
        answer = person.post("/v1/accounts", {"username": username, "password": PASSWORD})
        assert answer.status_code == 201, answer.json
        person.id = answer.json["id"]
        person.log_in(device)
        return person

    def log_in(self, device: str | None = None) -> dict[str, Any]:
        body = {"username": self.username, "password": PASSWORD} | ({"device": device} if device else {})
        answer = self.post("/auth", body)
        assert answer.status_code == 200, answer.json
        self.tokens = answer.json
        self.headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}
        return self.tokens

    def make_note(self, **fields: Any) -> dict[str, Any]:
        answer = self.post("/v1/notes", {"title": "a note", **fields})
        assert answer.status_code == 201, answer.json
        return answer.json

    def make_notebook(self, **fields: Any) -> dict[str, Any]:
        answer = self.post("/v1/notebooks", {"title": "a notebook", **fields})
        assert answer.status_code == 201, answer.json
        return answer.json

    def set_roles(self, *roles: str) -> None:
        """Give these roles and no others, in the database; a process that knows the account looks within a second."""
        Account._get_collection().update_one({"_id": self.id}, {"$set": {"roles": list(roles)}})


def pointers(answer: TestResponse) -> dict[str, str]:
    """The causes of a 422, code by pointer."""
    return {cause["pointer"]: cause["code"] for cause in answer.json["errors"]}


def why(answer: TestResponse) -> tuple[int, str]:
    """The status and the code of what was refused."""
    return answer.status_code, answer.json["code"]


def make_verified(person: Person, address: str, **more: Any) -> None:
    """Give an account an address as if it had been verified."""
    given = {"email": address, "email_key": address_key(address), "email_verified": True, **more}
    Account._get_collection().update_one({"_id": person.id}, {"$set": given})
