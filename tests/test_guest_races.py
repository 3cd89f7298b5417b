"""What comes to a guest that is becoming a part of another account at that moment: nothing opens it any more."""

from typing import Any

import pytest
from flask import Flask

from service.core.errors import BadCredentials
from service.documents import Account
from service.identity.addresses import VERIFY
from service.security import security
from tests.client import PASSWORD, Person
from tests.mailbox import Mailbox
from tests.test_addresses import token_in
from tests.test_guests import ME, guest, merge, work

__all__ = ["guest"]
pytestmark = pytest.mark.real


def test_a_guest_that_is_merged_while_its_password_is_hashed_gets_no_name(
    app: Flask, guest: Person, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashing = app.extensions["madang.security"].hashing
    hashed = hashing.hash

    def hash_meanwhile(password: str) -> str:
        assert merge(ada, guest).status_code == 202
        return str(hashed(password))

    monkeypatch.setattr(hashing, "hash", hash_meanwhile)
    answer = guest.put(f"{ME}/username", {"username": "grace", "password": PASSWORD})
    assert (answer.status_code, answer.json["code"]) == (401, "not_authenticated")
    assert Account.objects(username_key="grace").count() == 0


def test_a_link_of_before_a_merge_verifies_no_address_of_the_guest(app: Flask, guest: Person, ada: Person) -> None:
    mails = Mailbox(app)
    guest.put(f"{ME}/email", {"email": "grace@example.com"})
    (mail,) = mails.collect()
    assert merge(ada, guest).status_code == 202
    with app.test_request_context():
        addresses: Any = security().addresses
        found = addresses.tried_token(VERIFY, token_in(mail), "127.0.0.1")
        with pytest.raises(BadCredentials):
            addresses.verify(found, "127.0.0.1")
    assert Account.objects(email_key__exists=True).count() == 0
    assert work() == 1
