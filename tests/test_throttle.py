"""Throttling: failed logins, sign-ups and password changes are counted together by all processes."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import Flask
from limits import RateLimitItem
from mongoengine.connection import get_db
from werkzeug.test import TestResponse

from service.core.errors import BadCredentials, NotFound, TooManyRequests
from service.documents import Account, Event
from service.identity.security import Security
from service.identity.throttle import Throttle, network_of
from service.mongo import connection
from tests.client import PASSWORD, Person, Phone
from tests.racing import at_once

MakeApp = Callable[..., Flask]
ME = "/v1/accounts/me"
HOME, ELSEWHERE = "203.0.113.5", "198.51.100.7"
NO_LIMIT = "1000 per hour"


@pytest.fixture
def limited(make_app: MakeApp) -> Any:
    """A function that makes an app behind a proxy, with only those limits that it is told."""
    names = ("FAILED_LOGINS", "FAILED_LOGINS_ADDRESS", "FAILED_LOGINS_ACCOUNT", "SIGN_UPS", "PASSWORD_CHANGES")
    unlimited = {f"RATELIMIT_{name}": NO_LIMIT for name in names}

    def make(**limits: Any) -> Flask:
        named = {f"RATELIMIT_{name}": limit for name, limit in limits.items()}
        return make_app(**{**unlimited, "RATELIMIT_ENABLED": True, "TRUSTED_PROXIES": 1, **named})

    yield make
    if connection.is_memory(make_app().config["MONGODB_URI"]):
        return
    for name in ("throttle_windows", "throttle_counters"):
        get_db()[name].delete_many({})


def at(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


def log_in(app: Flask, password: str = "wrong", username: str = "ada", address: str = HOME) -> TestResponse:
    return Phone(app.test_client(), at(address)).post("/auth", {"username": username, "password": password})


def sign_up(app: Flask, username: str, address: str = HOME, **headers: str) -> TestResponse:
    phone = Phone(app.test_client(), {**at(address), **headers})
    return phone.post("/v1/accounts", {"username": username, "password": PASSWORD})


def change(app: Flask, person: Person, current: str = "wrong", **headers: str) -> TestResponse:
    body = {"current_password": current, "new_password": "another long pass phrase"}
    return Phone(app.test_client(), {**person.headers, **headers}).put(f"{ME}/password", body)


def statuses(answers: Any) -> list[int]:
    return [answer.status_code for answer in answers]


# Failed logins


def test_failed_logins_of_an_account_from_an_address_are_limited(limited: Any, ada: Person) -> None:
    app = limited(FAILED_LOGINS="3 per hour")
    assert statuses(log_in(app) for _ in range(5)) == [401, 401, 401, 429, 429]
    assert log_in(app, PASSWORD).json["code"] == "too_many_requests"


def test_the_owner_still_gets_in_from_another_address(limited: Any, ada: Person) -> None:
    app = limited(FAILED_LOGINS="3 per hour", FAILED_LOGINS_ACCOUNT="3 per hour")
    for _ in range(6):
        log_in(app, address=ELSEWHERE)
    assert log_in(app, PASSWORD).status_code == 200


def test_an_attack_from_many_addresses_gets_one_try_each(limited: Any, ada: Person) -> None:
    app = limited(FAILED_LOGINS_ACCOUNT="2 per hour")
    tries = [log_in(app, address=f"198.51.100.{number % 4}") for number in range(12)]
    assert statuses(tries).count(401) == 2 + 2
    assert log_in(app, PASSWORD).status_code == 200


def test_other_accounts_are_free_at_the_same_address(limited: Any, ada: Person, bob: Person) -> None:
    app = limited(FAILED_LOGINS="2 per hour")
    assert statuses(log_in(app) for _ in range(3)) == [401, 401, 429]
    assert log_in(app, PASSWORD, "bob").status_code == 200


def test_failed_logins_of_any_account_from_an_address_are_limited(limited: Any, ada: Person) -> None:
    app = limited(FAILED_LOGINS_ADDRESS="3 per hour")
    assert statuses(log_in(app, username=f"name{number}") for number in range(4)) == [401, 401, 401, 429]
    assert (log_in(app, PASSWORD).status_code, log_in(app, PASSWORD, address=ELSEWHERE).status_code) == (429, 200)


def test_logins_that_succeed_do_not_count(limited: Any, ada: Person) -> None:
    app = limited(FAILED_LOGINS="2 per hour", FAILED_LOGINS_ADDRESS="2 per hour")
    assert statuses(log_in(app, PASSWORD) for _ in range(5)) == [200] * 5


def test_a_name_that_is_not_there_is_limited_in_the_same_way(limited: Any, ada: Person) -> None:
    app = limited(FAILED_LOGINS="2 per hour")
    assert statuses(log_in(app, username="nobody") for _ in range(4)) == [401, 401, 429, 429]


def test_the_case_of_a_name_gives_no_further_tries(limited: Any, ada: Person) -> None:
    app = limited(FAILED_LOGINS="2 per hour")
    assert statuses(log_in(app, username=name) for name in ("ada", "ADA", "Ada")) == [401, 401, 429]


def test_retry_after_tells_when_the_next_try_is_free(limited: Any, ada: Person) -> None:
    app = limited(FAILED_LOGINS="2 per 5 seconds")
    log_in(app), log_in(app)
    wait = int(log_in(app, PASSWORD).headers["Retry-After"])
    assert 1 <= wait <= 6
    time.sleep(wait)
    assert log_in(app, PASSWORD).status_code == 200


TRIES: dict[str, Callable[[Throttle], None]] = {
    "SIGN_UPS": lambda throttle: throttle.sign_up(HOME),
    "PASSWORD_CHANGES": lambda throttle: throttle.password_change("ada"),
    "FAILED_LOGINS": lambda throttle: throttle.failed_login("ada", HOME),
    "FAILED_LOGINS_ADDRESS": lambda throttle: throttle.failed_login("ada", HOME),
    "FAILED_LOGINS_ACCOUNT": lambda throttle: throttle.failed_login("ada", HOME),
}


def throttle_of(app: Flask) -> Throttle:
    security: Security = app.extensions["madang.security"]
    return security.throttle


def wait(work: Callable[..., Any], *args: Any) -> int:
    """The seconds after which somebody who is refused may try again."""
    with pytest.raises(TooManyRequests) as raised:
        work(*args)
    return int(raised.value.headers["Retry-After"])


@pytest.mark.parametrize("name", TRIES)
def test_the_wait_is_counted_from_the_first_try(limited: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    throttle, started = throttle_of(limited(**{name: "1 per hour"})), float(int(time.time()))
    monkeypatch.setattr(time, "time", lambda: started)
    TRIES[name](throttle)
    for passed, left in ((1000, 2601), (3599.5, 1)):
        monkeypatch.setattr(time, "time", lambda passed=passed: started + passed)
        assert wait(TRIES[name], throttle) == left


@pytest.mark.parametrize("name", ["FAILED_LOGINS", "FAILED_LOGINS_ADDRESS", "FAILED_LOGINS_ACCOUNT"])
def test_a_login_that_is_not_looked_at_waits_as_long(limited: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    throttle, started = throttle_of(limited(**{name: "1 per hour"})), float(int(time.time()))
    monkeypatch.setattr(time, "time", lambda: started)
    throttle.check_login("ada", HOME)
    throttle.failed_login("ada", HOME)
    monkeypatch.setattr(time, "time", lambda: started + 1000)
    assert wait(throttle.check_login, "ada", HOME) == 2601


def test_of_those_who_try_at_once_each_address_has_one_try_more(limited: Any) -> None:
    throttle = throttle_of(limited(FAILED_LOGINS_ACCOUNT="2 per hour"))
    throttle.failed_login("ada", HOME)
    throttle.failed_login("ada", HOME)  # its one try is spent, but the account has room
    assert wait(throttle.failed_login, "ada", HOME)
    throttle.failed_login("ada", ELSEWHERE)
    assert wait(throttle.failed_login, "ada", ELSEWHERE)
    throttle.failed_login("bob", HOME)


def test_after_an_attack_from_many_addresses_a_good_password_waits_where_a_wrong_one_came_from(
    limited: Any, ada: Person
) -> None:
    app = limited(FAILED_LOGINS_ACCOUNT="1 per hour")
    assert statuses([log_in(app), log_in(app, address=ELSEWHERE)]) == [401, 401]
    assert statuses(log_in(app, PASSWORD, address=address) for address in (HOME, ELSEWHERE, "192.0.2.1")) == [
        429,
        429,
        200,
    ]


NETWORK = "2001:db8:1:2::/64"
LIMITS = [
    *("FAILED_LOGINS", "FAILED_LOGINS_ADDRESS", "FAILED_LOGINS_ACCOUNT", "SIGN_UPS", "CODES", "CODES_ADDRESS"),
    *("PASSWORD_CHANGES", "SECOND_FACTOR", "ACCOUNT_LOOKUPS", "INVITATIONS", "PUSH_REGISTRATIONS", "ADMIN_PUSHES"),
]
FAILED = [
    ("FAILED_LOGINS_ADDRESS", "login", NETWORK),
    ("FAILED_LOGINS", "login", "ada", NETWORK),
    ("FAILED_LOGINS_ACCOUNT", "login-account", "ada"),
]
ONCE = ("once", "login-once", "ada", NETWORK)


@pytest.mark.parametrize(
    ("work", "args", "looked_at"),
    [
        ("check_login", ("ada", "2001:db8:1:2::6"), FAILED),
        ("failed_login", ("ada", "2001:db8:1:2::6"), [FAILED[1], FAILED[0], FAILED[2], ONCE]),
        ("second_factor", ("ada",), [("SECOND_FACTOR", "second-factor", "ada")]),
        ("sign_up", ("2001:db8:1:2::6",), [("SIGN_UPS", "sign-up", NETWORK)]),
        (
            *("code_request", ("a@b.example", "2001:db8:1:2::6")),
            [("CODES", "codes", NETWORK), ("CODES_ADDRESS", "codes-address", "a@b.example")],
        ),
        ("password_change", ("ada",), [("PASSWORD_CHANGES", "password", "ada")]),
        ("look_up", ("ada",), [("ACCOUNT_LOOKUPS", "look-up", "ada")]),
        (
            *("invitation", ("ada", "2001:db8:1:2::6")),
            [("INVITATIONS", "invitations", "ada"), ("INVITATIONS", "invitations-address", NETWORK)],
        ),
        ("push_registration", ("ada",), [("PUSH_REGISTRATIONS", "push-registrations", "ada")]),
        ("admin_push", ("ada",), [("ADMIN_PUSHES", "admin-pushes", "ada")]),
    ],
)
def test_each_try_is_counted_by_its_own_limit_under_a_name_that_stays(
    limited: Any, monkeypatch: pytest.MonkeyPatch, work: str, args: Any, looked_at: list[Any]
) -> None:
    """Where the name changes, the servers of a new version and those of the old one count each for themselves."""
    throttle = throttle_of(limited(**{name: f"{number} per hour" for number, name in enumerate(LIMITS, 2)}))
    looked: list[Any] = []

    def look(limit: RateLimitItem, *key: str) -> bool:
        looked.append((["once", *LIMITS][limit.amount - 1], *key))
        return True

    monkeypatch.setattr(throttle.windows, "hit", look)
    monkeypatch.setattr(throttle.windows, "test", look)
    getattr(throttle, work)(*args)
    assert looked == looked_at


def counted(throttle: Throttle, raised: Exception | None, name: str = "ada", address: str = HOME) -> Exception | None:
    """What comes out of a try that ends so, where the codes that are not good count as failed logins."""
    try:
        with throttle.counting(name, address):
            if raised is not None:
                raise raised
    except (BadCredentials, TooManyRequests, NotFound) as error:
        return error
    return None


def test_what_fails_within_counts_as_a_failed_login_of_a_name_from_an_address(limited: Any) -> None:
    throttle = throttle_of(limited(FAILED_LOGINS="1 per hour"))
    wrong, missing = BadCredentials("wrong"), NotFound()
    assert counted(throttle, None) is None
    assert counted(throttle, missing) is missing
    assert counted(throttle, wrong) is wrong
    # What succeeds is not looked at any more, but for another name, or at another address.
    assert isinstance(counted(throttle, None), TooManyRequests)
    assert counted(throttle, None, name="bob") is None
    assert counted(throttle, None, address=ELSEWHERE) is None


def test_changes_of_one_account_take_none_from_another(limited: Any) -> None:
    throttle = throttle_of(limited(PASSWORD_CHANGES="1 per hour"))
    throttle.password_change("ada")
    throttle.password_change("bob")


@pytest.mark.real
def test_tries_are_counted_in_collections_of_their_own(limited: Any) -> None:
    def counting() -> set[str]:
        return {name for name in get_db().list_collection_names() if "windows" in name or "counters" in name}

    for name in counting():
        get_db()[name].drop()
    throttle_of(limited()).sign_up(HOME)
    assert counting() == {"throttle_windows", "throttle_counters"}
    assert get_db()["throttle_windows"].count_documents({}) == 1


def test_a_refused_try_does_not_make_the_wait_longer(limited: Any, ada: Person) -> None:
    app = limited(FAILED_LOGINS="1 per hour")
    log_in(app)
    waits = [int(log_in(app).headers["Retry-After"]) for _ in range(5)]
    assert max(waits) - min(waits) <= 1
    assert waits[0] > 3500


def test_a_refused_try_costs_no_hash_and_no_event(limited: Any, ada: Person) -> None:
    app = limited(FAILED_LOGINS="1 per hour")
    log_in(app)
    places = app.extensions["madang.security"].hashing.places
    taken = [places.acquire(blocking=False) for _ in range(app.config["PASSWORD_HASHING_LIMIT"])]
    assert all(taken)
    assert int(log_in(app).headers["Retry-After"]) > 1
    assert Event.objects(kind="login_failed").count() == 1


def test_a_login_that_is_no_json_does_not_count(limited: Any, ada: Person) -> None:
    app = limited(FAILED_LOGINS_ADDRESS="1 per hour")
    assert statuses(Phone(app.test_client(), at(HOME)).post("/auth", {}) for _ in range(3)) == [422] * 3
    assert log_in(app, PASSWORD).status_code == 200


# Sign-ups and password changes


def test_sign_ups_from_an_address_are_limited(limited: Any) -> None:
    app = limited(SIGN_UPS="2 per hour")
    answers = [sign_up(app, f"user{number}") for number in range(3)]
    assert statuses(answers) == [201, 201, 429]
    assert int(answers[-1].headers["Retry-After"]) > 3500
    assert sign_up(app, "user9", ELSEWHERE).status_code == 201


def test_a_sign_up_that_is_not_valid_does_not_count(limited: Any) -> None:
    app = limited(SIGN_UPS="1 per hour")
    assert statuses([sign_up(app, "a b"), sign_up(app, "user1")]) == [422, 201]


def test_sign_ups_in_a_batch_count_one_by_one(limited: Any, ada: Person) -> None:
    app = limited(SIGN_UPS="2 per hour")
    bodies = [{"username": f"user{number}", "password": PASSWORD} for number in range(4)]
    batch = [{"method": "POST", "path": "/v1/accounts", "body": body} for body in bodies]
    answer = Phone(app.test_client(), {**ada.headers, **at(HOME)}).post("/v1/batch", {"requests": batch})
    assert [part["status"] for part in answer.json["responses"]] == [201, 201, 429, 429]
    assert sign_up(app, "user9").status_code == 429


def test_codes_are_limited_by_who_asks_and_by_where_they_go(limited: Any) -> None:
    throttle = throttle_of(limited(CODES="3 per hour", CODES_ADDRESS="2 per hour"))
    asked = [("ada@", HOME), ("ada@", ELSEWHERE), ("bob@", HOME), ("cem@", HOME)]
    for key, address in asked:
        throttle.code_request(key, address)
    for key, address in (("ada@", "192.0.2.1"), ("dan@", HOME)):
        with pytest.raises(TooManyRequests):
            throttle.code_request(key, address)
    throttle.code_request("bob@", ELSEWHERE)


def test_changes_of_a_password_are_limited(limited: Any, ada: Person) -> None:
    app = limited(PASSWORD_CHANGES="2 per hour")
    assert statuses(change(app, ada) for _ in range(3)) == [401, 401, 429]
    assert change(app, ada, PASSWORD).status_code == 429


@pytest.mark.real
def test_an_idempotency_key_gives_no_further_tries_of_a_password(limited: Any, ada: Person) -> None:
    app = limited(PASSWORD_CHANGES="2 per hour")
    answers = [change(app, ada, **{"Idempotency-Key": f"k{number}"}) for number in range(4)]
    assert statuses(answers) == [401, 401, 429, 429]


@pytest.mark.real
def test_an_atomic_batch_gives_no_further_tries_of_a_password(limited: Any, ada: Person) -> None:
    phone = Phone(limited(PASSWORD_CHANGES="2 per hour").test_client(), ada.headers)
    body = {"current_password": "wrong", "new_password": "another long pass phrase"}
    batch = {"atomic": True, "requests": [{"method": "PUT", "path": f"{ME}/password", "body": body}]}
    answers = [phone.post("/v1/batch", batch).json["responses"][0]["status"] for _ in range(3)]
    assert answers == [401, 401, 429]


@pytest.mark.real
def test_sign_ups_with_an_idempotency_key_are_limited_too(limited: Any) -> None:
    app = limited(SIGN_UPS="2 per hour")
    answers = [sign_up(app, f"user{number}", **{"Idempotency-Key": f"k{number}"}) for number in range(4)]
    assert statuses(answers) == [201, 201, 429, 429]
    assert Account.objects.count() == 2


# All together


@pytest.mark.real
def test_all_processes_count_together(limited: Any, ada: Person) -> None:
    apps = [limited(FAILED_LOGINS="3 per hour"), limited(FAILED_LOGINS="3 per hour")]
    assert statuses(log_in(apps[number % 2]) for number in range(5)) == [401, 401, 401, 429, 429]


@pytest.mark.real
def test_the_first_tries_of_all_that_come_at_once_count(limited: Any) -> None:
    throttle = throttle_of(limited(SIGN_UPS="6 per hour"))
    for trial in range(20):
        tries = [partial(throttle.count, throttle.sign_ups, "first", str(trial))] * 8
        assert sorted(at_once(*tries)) == [False] * 2 + [True] * 6, trial


def test_the_switch_turns_it_off(limited: Any, ada: Person) -> None:
    names = ("FAILED_LOGINS", "FAILED_LOGINS_ADDRESS", "FAILED_LOGINS_ACCOUNT", "SIGN_UPS", "PASSWORD_CHANGES")
    app = limited(ENABLED=False, **dict.fromkeys(names, "1 per hour"))
    assert statuses(log_in(app) for _ in range(4)) == [401] * 4
    assert statuses(sign_up(app, f"user{number}") for number in range(2)) == [201] * 2
    assert statuses(change(app, ada) for _ in range(2)) == [401] * 2


def test_what_is_turned_off_counts_and_looks_up_nothing(limited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = limited(ENABLED=False)
    monkeypatch.setattr(throttle_of(app), "windows", None)
    assert statuses(log_in(app) for _ in range(2)) == [401] * 2


def test_an_address_that_a_client_claims_counts_only_behind_a_proxy(limited: Any, make_app: MakeApp) -> None:
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_FAILED_LOGINS="2 per hour")
    assert statuses(log_in(app, address=f"198.51.100.{number}") for number in range(3)) == [401, 401, 429]


def test_what_a_client_puts_in_front_of_the_proxys_word_does_not_count(limited: Any) -> None:
    app = limited(FAILED_LOGINS="2 per hour")
    assert statuses(log_in(app, address=f"198.51.100.{number}, {HOME}") for number in range(3)) == [401, 401, 429]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        *(("203.0.113.5", "203.0.113.5"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("unknown", "unknown")),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        # As some proxies write it: another port for each connection.
        *(("203.0.113.5:4711", "203.0.113.5"), ("[2001:db8:1:2::6]:4711", "2001:db8:1:2::/64")),
        *(("[2001:db8:1:2::6]", "2001:db8:1:2::/64"), ("203.0.113.5:x", "203.0.113.5:x"), ("[x]:1", "[x]:1")),
    ],
)
def test_one_subscriber_is_one_address(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize("limit", ["", "often", "10", "10 per fortnight"])
def test_a_limit_that_cannot_be_read_refuses_to_start(limited: Any, limit: str) -> None:
    with pytest.raises(ValueError):
        limited(SIGN_UPS=limit)
