"""Letters: stored in the transaction of the write that causes them, so many at most, and read by nobody."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import bson
import pytest
from flask import Flask
from mongoengine.connection import get_db

from service.core.clock import now
from service.documents import Account, OutboxItem
from service.documents.account import address_key
from service.identity import deletion
from service.mongo import connection, transactions
from service.outbox.letters import Letter, Letters, mailbox
from service.outbox.rendering import TEMPLATES
from service.outbox.sealing import Seal, Unsealable
from service.upkeep import backup
from tests.client import Person
from tests.mailbox import Mailbox
from tests.types import REGISTRY

CODE = {"code": "K7QM-2XWD", "minutes": 15}


def letters_of(app: Flask) -> Letters:
    return app.extensions["madang.security"].letters


def letter(to: str = "mina@example.org", **given: Any) -> Letter:
    return Letter(to, **{"template": "sign_in_code", "values": CODE, **given})


def notice(to: str = "mina@example.org") -> Letter:
    return Letter(to, "password_changed", values={"when": now()})


def stored() -> list[dict[str, Any]]:
    return list(OutboxItem._get_collection().find())


# What is stored


def test_a_letter_waits_with_what_may_be_seen_of_it(app: Flask) -> None:
    assert letters_of(app).post(letter(language="ko", account="ada"))
    (item,) = stored()
    assert item["content"] == {"to": "mina@example.org", "template": "sign_in_code", "language": "ko"}
    assert (item["kind"], item["state"], item["account"], item["tries"]) == ("mail", "waiting", "ada", 0)


def test_nobody_who_reads_the_database_reads_a_code(app: Flask) -> None:
    letters_of(app).post(letter())
    assert CODE["code"].encode() not in bson.encode(stored()[0])


def test_a_letter_without_values_has_nothing_to_hide(app: Flask) -> None:
    letters_of(app).post(Letter("mina@example.org", "no_account"))
    assert "sealed" not in stored()[0]
    assert "no account" in Mailbox(app).collect()[0].subject


def test_what_was_sealed_for_one_item_opens_for_no_other() -> None:
    seal = Seal([b"1" * 32])
    sealed = seal.close({"code": "one", "at": datetime(2026, 11, 27)}, "a")
    assert seal.open(sealed, "a") == {"code": "one", "at": datetime(2026, 11, 27)}
    with pytest.raises(Unsealable):
        seal.open(sealed, "b")


def test_an_older_key_still_opens_and_the_first_seals() -> None:
    old, new = Seal([b"1" * 32]), Seal([b"2" * 32, b"1" * 32])
    assert new.open(old.close({"code": "one"}, "a"), "a") == {"code": "one"}
    with pytest.raises(Unsealable):
        old.open(new.close({"code": "one"}, "a"), "a")


@pytest.mark.parametrize(
    "to",
    [
        *("", "mina", "mina@", "@example.org", "a b@example.org", "mina@example.org\r\nBcc: eve@example.com"),
        *("mina@example.org, eve@example.com", "<mina@example.org>", "Mina <mina@example.org>", "mina@exa mple.org"),
    ],
)
def test_what_is_no_address_gets_no_letter(to: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        letter(to)


@pytest.mark.parametrize("given", [{"template": "nope"}, {"values": {}}, {"values": {**CODE, "link": "x"}}])
def test_a_letter_has_a_template_and_what_that_asks_for(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"template|asks for"):
        letter(**given)


def test_a_letter_may_have_what_its_template_can_do_without() -> None:
    given = {**CODE, "link": "https://app.example.com/verify"}
    assert letter(template="verify_address", values=given)
    assert letter(template="verify_address", values={**given, "username": "mina"})


# Once


def test_of_two_letters_with_one_deduplication_key_the_first_is_stored(app: Flask) -> None:
    posted = [letters_of(app).post(letter(dedupe_key="once", language=language)) for language in ("en", "ko")]
    assert posted == [True, True]
    assert [item["content"]["language"] for item in stored()] == ["en"]


def test_a_deduplication_key_holds_after_the_letter_was_sent(app: Flask) -> None:
    box = Mailbox(app)
    for mails in (1, 0):
        letters_of(app).post(letter(dedupe_key="once"))
        assert len(box.collect()) == mails


@pytest.mark.real
def test_of_many_letters_at_once_with_one_deduplication_key_one_is_stored(app: Flask) -> None:
    with ThreadPoolExecutor(8) as threads:
        posted = list(threads.map(lambda _: letters_of(app).post(letter(dedupe_key="once")), range(24)))
    assert all(posted)
    assert len(stored()) == 1


# Transactions


@pytest.mark.real
def test_a_letter_is_stored_with_the_write_that_causes_it_or_not_at_all(app: Flask) -> None:
    class Undone(Exception):
        pass

    def work(fails: bool) -> None:
        letters_of(app).post(letter())
        letters_of(app).post(letter(dedupe_key="once"))
        if fails:
            raise Undone

    with suppress(Undone):
        transactions.run(lambda: work(True))
    assert stored() == []
    transactions.run(lambda: work(False))
    assert len(stored()) == 2


@pytest.mark.real
def test_a_letter_that_is_there_already_does_not_end_a_transaction(app: Flask) -> None:
    letters_of(app).post(letter(dedupe_key="once"))
    transactions.run(lambda: [letters_of(app).post(letter(dedupe_key=key)) for key in ("once", "twice")])
    assert len(stored()) == 2


# Bounds


@pytest.fixture
def limited(make_app: Any) -> Any:
    def make(to_one: str = "3 per hour", in_all: str = "1000 per hour") -> Letters:
        app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_MAILS_ADDRESS=to_one, RATELIMIT_MAILS=in_all)
        return letters_of(app)

    yield make
    if not connection.is_memory(make_app().config["MONGODB_URI"]):
        for name in ("throttle_windows", "throttle_counters"):
            get_db()[name].delete_many({})


def test_a_mailbox_gets_so_many_letters(limited: Any) -> None:
    letters = limited()
    assert [letters.post(letter()) for _ in range(5)] == [True, True, True, False, False]
    assert letters.post(letter("jun@example.org"))
    assert len(stored()) == 4


@pytest.mark.parametrize("local", ["MINA", "m.i.n.a", "mina+1", "mi.na+a+b"])
def test_a_mailbox_is_one_however_its_address_is_written(local: str) -> None:
    assert mailbox(f"{local}@EXAMPLE.org") == mailbox("mina@example.org") != mailbox("mina@example.com")


def test_codes_that_anybody_can_ask_for_do_not_hold_back_notices_and_invitations(limited: Any) -> None:
    letters = limited("1 per hour", "2 per hour")
    assert [letters.post(letter()) for _ in range(2)] == [True, False]
    assert letters.post(notice())
    invitation = {"inviter": "Ada", "group": "Choir", "code": "K7QM-2XWD", "link": "https://example.com", "days": 7}
    assert letters.post(Letter("mina@example.org", "invitation", values=invitation))


def test_all_get_so_many_letters_together(limited: Any) -> None:
    letters = limited("3 per hour", "4 per hour")
    assert [letters.post(letter(f"{name}@example.org")) for name in "abcdef"] == [True] * 4 + [False] * 2


def test_a_storm_on_one_mailbox_does_not_take_the_room_of_others(limited: Any) -> None:
    letters = limited("1 per hour", "3 per hour")
    assert [letters.post(letter()) for _ in range(20)].count(True) == 1
    assert [letters.post(letter(f"{name}@example.org")) for name in "abc"] == [True, True, False]


def test_what_is_not_stored_twice_is_not_counted_twice(limited: Any) -> None:
    letters = limited("2 per hour")
    assert all(letters.post(letter(dedupe_key="once")) for _ in range(5))
    assert letters.post(letter())


@pytest.mark.real
@pytest.mark.parametrize(("to_one", "in_all"), [("7 per hour", "1000 per hour"), ("1000 per hour", "7 per hour")])
def test_letters_that_are_posted_at_once_are_counted_exactly(limited: Any, to_one: str, in_all: str) -> None:
    apart = [limited(to_one, in_all) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        posted = list(threads.map(lambda number: apart[number % 4].post(letter()), range(40)))
    assert posted.count(True) == 7 == len(stored())


@pytest.mark.real
def test_what_is_undone_counts_too(limited: Any) -> None:
    letters = limited("2 per hour")

    def work() -> None:
        letters.post(letter())
        raise ValueError

    for _ in range(2):
        with suppress(ValueError):
            transactions.run(work)
    assert not letters.post(letter())


# Mails that come back


def bounced(app: Flask, *words: str, code: int = 0) -> str:
    result = app.test_cli_runner().invoke(args=["accounts", "bounced", *words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def address_of_ada(ada: Person) -> str:
    """A verified address of Ada's."""
    key = address_key("Ada@example.org")
    named = {"email": "Ada@example.org", "email_verified": True, "email_key": key}
    Account._get_collection().update_one({"_id": ada.id}, {"$set": named})
    return "ADA@EXAMPLE.ORG"


def test_where_mails_come_back_none_is_sent_but_to_confirm_the_address(app: Flask, address_of_ada: str) -> None:
    bounced(app, address_of_ada)
    letters, confirm = letters_of(app), {**CODE, "link": "https://app.example.com/verify"}
    assert not letters.post(letter("ada@example.org"))
    assert letters.post(letter("ada@example.org", template="verify_address", values=confirm))
    assert letters.post(letter("bob@example.org"))
    bounced(app, address_of_ada, "--undo")
    assert letters.post(letter("ada@example.org"))


def test_another_address_is_not_meant_by_mails_that_came_back(app: Flask, ada: Person, address_of_ada: str) -> None:
    bounced(app, address_of_ada)
    other = {"email": "new@example.org", "email_key": address_key("new@example.org")}
    Account._get_collection().update_one({"_id": ada.id}, {"$set": other})
    assert letters_of(app).post(letter("new@example.org"))
    assert letters_of(app).post(letter("ada@example.org"))


@pytest.mark.parametrize("address", ["nobody@example.org", "nobody"])
def test_only_an_address_of_an_account_is_marked(app: Flask, address: str) -> None:
    assert "Error: " in bounced(app, address, code=1)


def test_what_was_said_of_an_address_goes_with_the_account(app: Flask, ada: Person, address_of_ada: str) -> None:
    bounced(app, address_of_ada)
    deletion.delete_account(REGISTRY, ada.id)
    assert Account._get_collection().count_documents({"email_bounced": {"$exists": True}}) == 0


# Whose they are, and where they do not go


def test_the_letters_of_an_account_go_with_it(app: Flask, ada: Person, bob: Person) -> None:
    for account in (ada.id, bob.id, None):
        letters_of(app).post(letter(account=account))
    deletion.delete_account(REGISTRY, ada.id)
    assert {item.get("account") for item in stored()} == {bob.id, None}


def test_no_letter_is_in_a_backup() -> None:
    assert OutboxItem not in backup.backed_up(REGISTRY)


def test_where_mail_cannot_be_sent_nothing_is_stored(make_app: Any) -> None:
    letters = letters_of(make_app(ENVIRONMENT="production"))
    assert not letters.available
    assert not letters.post(notice())
    assert stored() == []


def test_what_is_of_no_more_use_goes_even_where_no_worker_runs(app: Flask) -> None:
    until = now() + timedelta(minutes=15)
    letters_of(app).post(letter(until=until))
    assert until < stored()[0]["expires_at"] <= until + timedelta(days=1)


def test_the_time_of_the_server_is_that_of_mongodb(app: Flask) -> None:
    assert abs((connection.server_time() - now()).total_seconds()) < 30


def test_every_template_is_counted_with_some_others() -> None:
    assert {needs.counted for needs in TEMPLATES.values()} == {"code", "notice", "invitation"}
