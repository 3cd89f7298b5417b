"""An admin at the console, without a browser: what is shown is read as HTML, and forms are sent as they stand there."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.documents import Account
from tests.client import PASSWORD, Person

FORM_START = {"input", "select", "textarea", "form", "option"}


class Form(HTMLParser):
    """The texts of the inputs of the first form by POST on a page, but for that which signs out."""

    def __init__(self, page: str, action: str | None = None) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.action, self.within, self.open_name, self.done = action, False, "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        about = {name: value or "" for name, value in attributes}
        if tag == "form" and not self.done:
            named = about.get("action", "")
            self.within = about.get("method") == "post" and named != "/admin/sign-out" and self.action in (None, named)
        if not self.within:
            return
        name = about.get("name", "")
        if tag == "input" and name:
            self.texts[name] = about.get("value", "")
        elif tag in ("select", "textarea"):
            self.open_name = name
            self.texts[name] = ""
            self.is_text = tag == "textarea"
            self.first = True
        elif tag == "option" and "selected" in about and self.open_name:
            self.texts[self.open_name] = about["value"]

    def handle_data(self, data: str) -> None:
        if self.within and self.open_name and self.is_text:
            # The line end after the tag is none of the text.
            self.texts[self.open_name] += data.removeprefix("\n") if self.first else data
            self.first = False

    def handle_endtag(self, tag: str) -> None:
        if tag in ("select", "textarea"):
            self.open_name = ""
        if tag == "form" and self.within:
            self.within, self.done = False, True


class AdminBrowser:
    """A browser with the console in it."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    @classmethod
    def of(cls, person: Person, app: Flask, role: str = "admin") -> AdminBrowser:
        """The browser of a person, who is made an admin and signs in."""
        Account._get_collection().update_one({"_id": person.id}, {"$set": {"roles": [role]}})
        found = cls(app.test_client())
        answer = found.sign_in(person.username)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/admin"), answer.text
        return found

    def sign_in(self, username: str, password: str = PASSWORD) -> TestResponse:
        return self.send("/admin/sign-in", username=username, password=password)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, **options)

    def form(self, path: str, action: str | None = None) -> dict[str, str]:
        page = self.get(path)
        assert page.status_code == 200, page.text
        return Form(page.text, action).texts

    def send(self, path: str, where: str | None = None, action: str | None = None, **texts: str) -> TestResponse:
        """Fill in the form of a page, and send it there or to `where`."""
        return self.post(where or path, {**self.form(path, action), **texts})

    def post(self, path: str, texts: dict[str, str], **options: Any) -> TestResponse:
        return self.client.post(path, data=texts, **options)
