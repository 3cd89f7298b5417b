"""What Security keeps: its parts work together, and what is derived of the secret stays what it was."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from service.core.clock import now
from service.core.errors import BadCredentials
from service.identity.first_admin import FirstAdmin
from service.identity.keys import Keys
from service.identity.security import Security
from tests.client import PASSWORD, Person

MakeApp = Callable[..., Flask]


def security_of(app: Flask) -> Security:
    found: Security = app.extensions["madang.security"]
    return found


def test_all_parts_share_what_counts_what_signs_and_what_sends(app: Flask) -> None:
    """Each with a throttle or sessions of its own would count, or remember, for itself."""
    security = security_of(app)
    addresses, providers = security.addresses, security.linked_identities.providers
    names = ("tokens", "keys", "sessions", "hashing", "throttle", "letters")
    shared = {name: getattr(security, name) for name in names}
    shared |= {"notices": addresses.notices, "links": addresses.links, "providers": providers}
    of_sign_in = (security.linked_identities, security.web_sign_in, security.second_factors, security.passkeys)
    for part in (security.sessions, addresses, security.invitations, security.push_devices, *of_sign_in):
        held = {name: value for name, value in vars(part).items() if name in shared}
        assert held == {name: shared[name] for name in held}
    assert addresses.codes.keys is security.keys


def test_pages_and_links_of_mails_lead_to_the_same_place(make_app: MakeApp) -> None:
    security = security_of(make_app(PUBLIC_URL="https://notes.example.org", APP_NAME="Notes"))
    assert security.addresses.links.base == "https://notes.example.org"
    assert security.web_sign_in.base == "https://notes.example.org/auth/providers"
    assert security.second_factors.issuer == "Notes"


def test_what_is_derived_of_the_secret_stays_what_it_was(make_app: MakeApp) -> None:
    """Else cursors that apps hold, letters that wait and links to the first account are no good after an update."""
    security = security_of(make_app(SECRET_KEY="a secret of more than thirty-two bytes"))
    keys = Keys(("a secret of more than thirty-two bytes",))
    assert security.keys == keys
    assert security.cursor_key == keys.derived("cursor")
    sealed = security.letters.seal.close({"code": "1"}, "letter")
    assert security.web_sign_in.outbox_seal.open(sealed, "letter") == {"code": "1"}
    assert security.linked_identities.seal is security.letters.seal
    assert FirstAdmin(keys).is_ours(security.first_admin.token())


@pytest.mark.parametrize("is_new", [True, False])
def test_a_device_is_told_of_where_it_was_new_before_its_session_was_opened(
    app: Flask, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    security, done, started = security_of(app), [], now()
    account, way_in, tokens = {"_id": "ada"}, {"passkeys.id": "x"}, {"access_token": "y"}

    def kept(name: str, answer: Any) -> Callable[..., Any]:
        return lambda *told: done.append((name, *told)) or answer

    notices = security.addresses.notices
    monkeypatch.setattr(notices, "is_new_device", kept("looked", is_new))
    monkeypatch.setattr(security.sessions, "open", kept("opened", tokens))
    monkeypatch.setattr(notices, "new_device", kept("told", None))
    assert security.opened(account, "192.0.2.1", "phone", way_in) is tokens
    looked_and_opened = [("looked", account, "192.0.2.1", "phone"), ("opened", account, "192.0.2.1", "phone", way_in)]
    assert done[:2] == looked_and_opened
    assert [told[:-1] for told in done[2:]] == [("told", account, "phone")] * is_new
    assert all(started <= told[-1] <= now() for told in done[2:])


def test_tries_of_a_login_count_for_the_account_and_for_a_name_without_one(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    security, counted = security_of(app), []
    for name in ("check_login", "failed_login"):
        monkeypatch.setattr(security.throttle, name, lambda *told, name=name: counted.append((name, *told)))
    for username in ("ADA", "Nobody"):
        with pytest.raises(BadCredentials):
            security.log_in(username, "wrong", "192.0.2.1", "phone")
    security.log_in("Ada", PASSWORD, "192.0.2.2", None)
    of_ada, of_nobody = (ada.id, "192.0.2.1"), ("nobody", "192.0.2.1")
    assert counted == [
        *(("check_login", *of_ada), ("failed_login", *of_ada)),
        *(("check_login", *of_nobody), ("failed_login", *of_nobody)),
        *[("check_login", ada.id, "192.0.2.2")] * 2,
    ]
