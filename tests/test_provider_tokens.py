"""What providers give is given back: when an account or an identity goes, by the worker."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from service.core.base64url import encode_base64url
from service.core.clock import now
from service.documents import Account, AuthorizationCode, OutboxItem
from service.files.blobs import GridFs
from service.identity import provider_tokens
from service.identity.deletion import delete_account
from service.mongo import transactions
from service.outbox import items
from service.outbox.dispatch import Dispatcher
from service.upkeep import backup
from service.worker import chores
from tests.client import Person, Phone
from tests.dispatching import Deaf, look
from tests.issuing import IOS, WEB, Issuer, apple, issuer
from tests.test_web_sign_in import ME, MakeApp, Trip, about, query, served, signed_in, trip
from tests.types import REGISTRY

__all__ = ["apple", "issuer", "served", "trip"]

TOKEN = "a refresh token that nobody may read"
REVOCATION = "/revocation"


@pytest.fixture
def worker(served: Flask) -> Iterator[Dispatcher]:
    (sender,) = [found for found in chores.senders(served.config) if found.kind == provider_tokens.PROVIDER_KIND]
    # It knows where things are before they break.
    sender.providers.by_name["acme"].issuer.current()  # type: ignore[attr-defined]
    with served.app_context():
        yield Dispatcher(sender, Deaf())


def work(worker: Dispatcher) -> None:
    """Do all that is due at this moment."""
    look(worker, 4)


def in_browser(trip: Trip, subject: str = "1001", token: str | None = TOKEN) -> Person:
    """Who has signed in in a browser, with a refresh token for us."""
    trip.begin()
    trip.grant(subject)
    trip.issuer.granted |= {} if token is None else {"refresh_token": token}
    return signed_in(trip.phone, trip.exchange(query(trip.back())["code"]))


def in_app(served: Flask, issuer: Issuer, provider: str, subject: str = "1001", code: str = "a code") -> Person:
    """Who has signed in by a provider's library, with a code for us."""
    phone = Phone(served.test_client())
    body = {"id_token": issuer.token(subject), "authorization_code": code}
    return signed_in(phone, phone.post(f"/auth/providers/{provider}", body))


def granted(issuer: Issuer, subject: str = "1001", **others: Any) -> None:
    """Have the token endpoint give a refresh token for a code of somebody."""
    issuer.granted = {"id_token": issuer.token(subject), "refresh_token": TOKEN, **others}


def revoked(issuer: Issuer) -> list[dict[str, str]]:
    return [form for path, form, _ in issuer.posted if path == REVOCATION]


def states() -> list[tuple[str, str]]:
    return sorted((item["content"]["to"], item["state"]) for item in OutboxItem._get_collection().find())


def everything() -> str:
    """All that is stored, as text."""
    documents = (Account, AuthorizationCode, OutboxItem)
    return "".join(str(list(document._get_collection().find())) for document in documents)


# With the account


def test_with_the_account_goes_what_its_provider_gave_in_a_browser(
    trip: Trip, issuer: Issuer, worker: Dispatcher
) -> None:
    ada = in_browser(trip)
    work(worker)
    assert revoked(issuer) == []
    assert ada.delete(ME).status_code == 204
    assert states() == [("revoke", "waiting")]
    work(worker)
    assert revoked(issuer) == [{"token": TOKEN, "token_type_hint": "refresh_token"}]
    assert states() == [("revoke", "sent")]
    ((_, _, headers),) = [one for one in issuer.posted if one[0] == REVOCATION]
    assert headers["Authorization"].startswith("Basic ")


def test_with_the_account_goes_what_apple_gave_for_the_code_of_an_app(
    served: Flask, apple: Issuer, worker: Dispatcher
) -> None:
    granted(apple)
    ada = in_app(served, apple, "apple")
    assert apple.posted == []
    work(worker)
    ((path, form, _),) = apple.posted
    assert path == "/token"
    assert (form["code"], form["client_id"], form["grant_type"]) == ("a code", IOS, "authorization_code")
    assert "redirect_uri" not in apple.bodies[0]
    assert ada.delete(ME).status_code == 204
    work(worker)
    (form,) = revoked(apple)
    assert (form["token"], form["client_id"]) == (TOKEN, IOS)
    assert form["client_secret"].count(".") == 2
    # What was redeemed went with the account.
    assert states() == [("revoke", "sent")]


def test_google_is_asked_for_what_can_be_given_back(make_app: MakeApp, issuer: Issuer) -> None:
    changed = about(issuer)
    changed["PROVIDERS"] = {"google": changed["PROVIDERS"]["acme"]}
    trip = Trip(make_app(**changed), issuer, "google")
    trip.begin()
    assert trip.asked["access_type"] == "offline"


def test_others_are_asked_for_no_more_than_is_needed(trip: Trip) -> None:
    trip.begin()
    assert "access_type" not in trip.asked
    assert trip.asked["scope"] == "openid email"


def test_a_code_of_google_comes_with_an_empty_link(make_app: MakeApp, issuer: Issuer) -> None:
    changed = about(issuer)
    changed["PROVIDERS"] = {"google": changed["PROVIDERS"]["acme"]}
    app = make_app(**changed)
    granted(issuer)
    in_app(app, issuer, "google")
    (sender,) = [found for found in chores.senders(app.config) if found.kind == provider_tokens.PROVIDER_KIND]
    with app.app_context():
        work(Dispatcher(sender, Deaf()))
    assert issuer.bodies[-1].endswith("&redirect_uri=")
    assert states() == [("redeem", "sent")]


@pytest.mark.real
def test_what_is_to_be_revoked_is_stored_with_the_deletion_or_neither(
    trip: Trip, served: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = in_browser(trip)

    def broken(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(items, "add_item", broken)
    with served.app_context(), pytest.raises(RuntimeError):
        delete_account(REGISTRY, ada.id)
    assert ada.get(ME).status_code == 200


@pytest.mark.real
def test_a_deletion_that_is_undone_revokes_nothing(trip: Trip, served: Flask) -> None:
    ada = in_browser(trip)

    def undone() -> None:
        delete_account(REGISTRY, ada.id)
        raise RuntimeError

    with served.app_context(), pytest.raises(RuntimeError):
        transactions.run(undone)
    assert states() == []


# With the identity


def test_with_an_identity_goes_what_came_with_it_and_nothing_else(
    trip: Trip, issuer: Issuer, worker: Dispatcher
) -> None:
    ada = in_browser(trip)
    trip.begin()
    trip.grant("1002")
    trip.issuer.granted |= {"refresh_token": "another token"}
    code = query(trip.back())["code"]
    body = {"provider": "acme", "code": code, "code_verifier": trip.verifier}
    second = ada.post(f"{ME}/identities", body)
    assert second.status_code == 201
    assert ada.delete(f"{ME}/identities/{second.json['id']}").status_code == 204
    work(worker)
    assert [form["token"] for form in revoked(issuer)] == ["another token"]


def test_what_came_last_is_what_is_given_back(trip: Trip, issuer: Issuer, worker: Dispatcher) -> None:
    in_browser(trip, token="the first")
    ada = in_browser(trip, token="the last")
    in_browser(trip, token=None)
    ada.delete(ME)
    work(worker)
    assert [form["token"] for form in revoked(issuer)] == ["the last"]


def test_the_last_way_in_stays_and_so_does_what_came_with_it(trip: Trip) -> None:
    ada = in_browser(trip)
    (identity,) = ada.get(f"{ME}/identities").json["items"]
    assert ada.delete(f"{ME}/identities/{identity['id']}").status_code == 409
    assert states() == []


def test_a_code_for_an_identity_that_has_gone_is_given_back_at_once(
    served: Flask, issuer: Issuer, worker: Dispatcher
) -> None:
    granted(issuer)
    ada = in_app(served, issuer, "acme")
    Account._get_collection().update_one({"_id": ada.id}, {"$set": {"identities": []}})
    work(worker)
    assert [form["token"] for form in revoked(issuer)] == [TOKEN]


def test_a_code_for_an_identity_that_another_account_has_by_now_is_given_back(
    served: Flask, issuer: Issuer, worker: Dispatcher
) -> None:
    granted(issuer)
    ada, bob = in_app(served, issuer, "acme"), in_app(served, issuer, "acme", "1002", "another code")
    accounts = Account._get_collection()
    (identity,) = dict(accounts.find_one({"_id": ada.id}) or {})["identities"]
    accounts.update_one({"_id": ada.id}, {"$set": {"identities": []}})
    accounts.update_one({"_id": bob.id}, {"$set": {"identities": [identity]}})
    OutboxItem._get_collection().delete_many({"account": bob.id})
    work(worker)
    assert [form["token"] for form in revoked(issuer)] == [TOKEN]
    assert "token_sealed" not in everything()


def test_with_a_deleted_account_go_its_codes(served: Flask, issuer: Issuer, worker: Dispatcher) -> None:
    granted(issuer)
    ada = in_app(served, issuer, "acme")
    ada.delete(ME)
    assert states() == []


# What is not kept


def test_where_nothing_can_be_given_back_nothing_is_kept(trip: Trip, served: Flask, issuer: Issuer) -> None:
    issuer.document["revocation_endpoint"] = None
    ada = in_browser(trip)
    granted(issuer)
    in_app(served, issuer, "acme")
    assert "token_sealed" not in everything()
    assert states() == []
    ada.delete(ME)
    assert states() == []


def test_without_a_secret_of_ours_no_code_is_kept(make_app: MakeApp, issuer: Issuer) -> None:
    changed = about(issuer)
    del changed["PROVIDERS"]["acme"]["client_secret"]
    in_app(make_app(**changed), issuer, "acme")
    assert states() == []


@pytest.mark.parametrize("token", ["", 7, None, ["x"], "x" * 4001])
def test_what_is_no_token_is_not_kept(trip: Trip, token: Any) -> None:
    trip.begin()
    trip.grant()
    trip.issuer.granted |= {"refresh_token": token}
    assert trip.exchange(query(trip.back())["code"]).status_code == 200
    assert "token_sealed" not in everything()


@pytest.mark.parametrize("token", ["x", "x" * 4000])
def test_what_is_a_token_is_kept(trip: Trip, issuer: Issuer, worker: Dispatcher, token: str) -> None:
    in_browser(trip, token=token).delete(ME)
    work(worker)
    assert [form["token"] for form in revoked(issuer)] == [token]


def test_a_code_is_kept_for_as_long_as_it_is_good_and_goes_with_its_account(served: Flask, issuer: Issuer) -> None:
    ada = in_app(served, issuer, "acme")
    (item,) = OutboxItem._get_collection().find()
    assert timedelta(minutes=4) < item["until"] - now() <= timedelta(minutes=5)
    assert (item["account"], item["content"]) == (ada.id, {"provider": "acme", "to": "redeem"})


def test_a_code_of_somebody_else_is_not_kept_with_an_identity(
    served: Flask, issuer: Issuer, worker: Dispatcher
) -> None:
    for token in (issuer.token("1002"), issuer.token(iss="https://accounts.example.com"), "x", None):
        granted(issuer, id_token=token)
        eve = in_app(served, issuer, "acme")
        work(worker)
        assert "token_sealed" not in everything()
        eve.delete(ME)
    assert revoked(issuer) == []
    assert {state for _, state in states()} <= {"failed"}


def test_a_code_that_its_token_does_not_name_is_not_kept(served: Flask, issuer: Issuer) -> None:
    half = encode_base64url(hashlib.sha256(b"another").digest()[:16])
    body = {"id_token": issuer.token(c_hash=half), "authorization_code": "a code"}
    assert Phone(served.test_client()).post("/auth/providers/acme", body).status_code == 401
    assert states() == []


# Who reads it


def test_nobody_reads_a_token_of_a_provider(
    trip: Trip, served: Flask, issuer: Issuer, worker: Dispatcher, capfd: pytest.CaptureFixture[str]
) -> None:
    ada = in_browser(trip)
    granted(issuer, "1002")
    in_app(served, issuer, "acme", "1002", "a code that nobody may read")
    shown = [everything(), ada.get(f"{ME}/export").text, ada.get(f"{ME}/identities").text, ada.get(ME).text]
    work(worker)
    shown.append(everything())
    ada.delete(ME)
    shown.append(everything())
    shown.append(served.test_cli_runner().invoke(args=["outbox", "list"]).output)
    work(worker)
    shown += [everything(), *capfd.readouterr()]
    assert len(revoked(issuer)) == 1
    assert not [text for text in shown if "nobody may read" in text]


@pytest.mark.real
def test_a_backup_holds_no_token_that_can_be_read(trip: Trip, served: Flask, tmp_path: Path) -> None:
    in_browser(trip)
    with served.app_context():
        backup.backup(REGISTRY, GridFs(), tmp_path / "backup", lambda *_: None)
    assert b"nobody may read" not in (tmp_path / "backup").read_bytes()


# Providers that are away, or do not want to


def test_a_provider_that_is_away_is_asked_again(trip: Trip, issuer: Issuer, worker: Dispatcher) -> None:
    in_browser(trip).delete(ME)
    issuer.broken = (503, {}, b"")
    work(worker)
    assert states() == [("revoke", "waiting")]
    (item,) = OutboxItem._get_collection().find()
    assert item["tries"] == 1
    issuer.broken = None
    OutboxItem._get_collection().update_one({}, {"$set": {"due_at": items.DUE_AT_ONCE}})
    work(worker)
    assert states() == [("revoke", "sent")]


def reasons() -> list[tuple[str, str]]:
    return [(item["state"], item.get("reason", "")) for item in OutboxItem._get_collection().find()]


PUT_OFF = [("waiting", "the provider did not answer as it should")]


@pytest.mark.parametrize("answer", [b"[]", b"no JSON"])
def test_a_token_endpoint_that_answers_something_else_is_asked_again(
    served: Flask, issuer: Issuer, worker: Dispatcher, answer: bytes
) -> None:
    in_app(served, issuer, "acme")
    issuer.broken = (200, {}, answer)
    work(worker)
    assert reasons() == PUT_OFF


def test_where_tls_is_asked_for_nothing_goes_to_a_provider_without(
    served: Flask, issuer: Issuer, worker: Dispatcher, trip: Trip
) -> None:
    in_browser(trip).delete(ME)
    in_app(served, issuer, "acme", "1002")
    issuer.posted.clear()
    worker.sender.providers.by_name["acme"].issuer.https_only = True  # type: ignore[attr-defined]
    work(worker)
    assert issuer.posted == []
    assert reasons() == PUT_OFF * 2


def test_a_provider_that_has_lost_its_endpoints(served: Flask, issuer: Issuer, worker: Dispatcher, trip: Trip) -> None:
    in_browser(trip).delete(ME)
    in_app(served, issuer, "acme", "1002")
    issuer.posted.clear()
    found = worker.sender.providers.by_name["acme"].issuer  # type: ignore[attr-defined]
    found.known = replace(found.known, endpoints=replace(found.known.endpoints, token=None, revocation=None))
    work(worker)
    assert issuer.posted == []
    assert sorted(reasons()) == [("failed", "the provider has no revocation endpoint any more"), *PUT_OFF]


@pytest.mark.parametrize("said", ["invalid_token", "invalid_grant"])
def test_a_token_that_is_void_already_is_done(trip: Trip, issuer: Issuer, worker: Dispatcher, said: str) -> None:
    in_browser(trip).delete(ME)
    issuer.broken = (400, {}, f'{{"error": "{said}"}}'.encode())
    work(worker)
    assert states() == [("revoke", "sent")]


def test_a_provider_that_refuses_is_told_to_who_runs_the_service(
    trip: Trip, served: Flask, issuer: Issuer, worker: Dispatcher
) -> None:
    in_browser(trip).delete(ME)
    issuer.broken = (401, {}, b'{"error": "invalid_client"}')
    work(worker)
    listed = served.test_cli_runner().invoke(args=["outbox", "list", "--kind", "provider"]).output
    assert "acme revoke" in listed
    assert "the provider refuses: 'invalid_client'" in listed
    issuer.broken = None
    assert "1 are tried again" in served.test_cli_runner().invoke(args=["outbox", "repeat", "--failed"]).output
    work(worker)
    assert states() == [("revoke", "sent")]


def test_a_code_that_is_refused_is_no_trouble_for_who_signs_in(
    served: Flask, issuer: Issuer, worker: Dispatcher
) -> None:
    ada = in_app(served, issuer, "acme")
    issuer.broken = (400, {}, b'{"error": "invalid_grant"}')
    work(worker)
    assert reasons() == [("failed", "the provider does not take the code: 'invalid_grant'")]
    assert ada.get(ME).status_code == 200


def test_a_code_for_which_no_refresh_token_comes_is_done(served: Flask, issuer: Issuer, worker: Dispatcher) -> None:
    in_app(served, issuer, "acme")
    issuer.granted = {"id_token": issuer.token()}
    work(worker)
    assert states() == [("redeem", "sent")]


def test_a_code_that_is_too_old_is_not_tried(served: Flask, issuer: Issuer, worker: Dispatcher) -> None:
    in_app(served, issuer, "acme")
    OutboxItem._get_collection().update_one({}, {"$set": {"until": now()}})
    work(worker)
    assert issuer.posted == []
    assert states() == [("redeem", "failed")]


@pytest.mark.parametrize("gone", ["provider", "secret"])
def test_what_the_settings_no_longer_have_fails(
    make_app: MakeApp, trip: Trip, issuer: Issuer, apple: Issuer, gone: str
) -> None:
    in_browser(trip).delete(ME)
    changed = about(issuer, apple)
    del (changed["PROVIDERS"] if gone == "provider" else changed["PROVIDERS"]["acme"])[
        "acme" if gone == "provider" else "client_secret"
    ]
    app = make_app(**changed)
    (sender,) = [found for found in chores.senders(app.config) if found.kind == provider_tokens.PROVIDER_KIND]
    with app.app_context():
        work(Dispatcher(sender, Deaf()))
    assert reasons() == [("failed", "the settings have no such provider, or no secret of it")]


def test_what_another_secret_has_encrypted_fails(make_app: MakeApp, trip: Trip, issuer: Issuer) -> None:
    in_browser(trip).delete(ME)
    app = make_app(**about(issuer), SECRET_KEY="another secret of this installation")
    (sender,) = [found for found in chores.senders(app.config) if found.kind == provider_tokens.PROVIDER_KIND]
    with app.app_context():
        work(Dispatcher(sender, Deaf()))
    (item,) = OutboxItem._get_collection().find()
    assert (item["state"], item["reason"][:16]) == ("failed", "it was encrypted")


def test_without_providers_nobody_waits_for_them(served: Flask, make_app: MakeApp) -> None:
    assert [found.kind for found in chores.senders(make_app(PROVIDERS={}).config)] == ["mail"]
    assert [found.kind for found in chores.senders(served.config)] == ["mail", "provider"]


def test_a_link_with_a_code_for_us_keeps_what_it_gives(
    served: Flask, ada: Person, issuer: Issuer, worker: Dispatcher
) -> None:
    granted(issuer)
    person = Person(served.test_client(), ada.headers)
    body = {"provider": "acme", "id_token": issuer.token(aud=WEB), "authorization_code": "a code"}
    assert person.post(f"{ME}/identities", body).status_code == 201
    work(worker)
    assert issuer.posted[0][1]["code"] == "a code"
    assert person.delete(ME).status_code == 204
    work(worker)
    assert [form["token"] for form in revoked(issuer)] == [TOKEN]
