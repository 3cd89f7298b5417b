"""What Schemathesis, which loads this module, does not know of Madang: how to sign in, and why good data is refused."""

import os
import re
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any
from uuid import uuid4

import requests
import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance

BASE = os.environ["FUZZ_BASE"]
SIGNED_IN = os.environ["FUZZ_AS"] == "account"
KEY = "Idempotency-Key"
LONGEST_KEY = 255

REASONS = frozenset(
    {
        "bad_query",  # `where` is JSON in a string
        "cursor: not_valid",  # only the service makes one
        "search: not_allowed",  # with a sort, or another scope than `mine`
        "expand: not_allowed",  # a field that `fields` leaves out
        "/id: read_only",  # another id than that in the path
        *("result: too_large", "result: too_small", "result: too_long", "result: too_short"),  # of an update operator
        "named_twice",  # a field in a merge patch and in an operator, or in two operators
        ": not_allowed",  # of the whole body: a key inside of an atomic batch
        "not_found",  # a reference to a record that is not there
        "email",  # more is asked of one than `format` says
        "position",  # see `before_load_schema`
        "nul",  # in a string of any field
        "guest_token",  # only the service makes one
        "/current_password: required",  # where the account has one
        "/id_token: required",  # it, or a code with its verifier
        "/uses: not_allowed",  # more than one, beside an address
        "/time_zone: not_valid",  # of a list that is long
        "too_common",  # a password
        "holds_username",
    }
)
"""Codes of problems and of their causes, some with their place, that are about what JSON Schema cannot say."""


class Account:
    """Somebody new, signed in; again when the session has ended, as it does when the account is deleted."""

    def get(self, _case: Case, _context: Any) -> str:
        """Return an access token."""
        sent = {"username": uuid4().hex, "password": "three green boats"}
        with requests.Session() as session:
            session.trust_env = False  # no proxy for 127.0.0.1
            session.post(f"{BASE}/v1/accounts", json=sent, timeout=30).raise_for_status()
            answer = session.post(f"{BASE}/auth", json=sent, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def set(self, case: Case, data: str, _context: Any) -> None:
        """Send the token with the request."""
        case.headers["Authorization"] = f"Bearer {data}"


if SIGNED_IN:
    schemathesis.auth(refresh_interval=120)(Account)

numbers = count()


@schemathesis.hook
def before_load_schema(_context: Any, raw_schema: dict[str, Any]) -> None:
    """Say of a position only that it is two numbers: Schemathesis 4.32 cannot read what it makes of `prefixItems`."""
    for part in parts(raw_schema):
        if "prefixItems" in part:
            del part["prefixItems"]
            part["items"] = {"type": "number", "minimum": -180, "maximum": 180}


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a JSON value."""
    if isinstance(value, dict):
        yield value
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(member)


@schemathesis.hook
def before_call(_context: Any, case: Case, _kwargs: dict[str, Any]) -> None:
    """Make every good idempotency key another one: chosen by machine they are mostly the same."""
    key = (case.headers or {}).get(KEY)
    if isinstance(key, str) and key.isascii() and key.isprintable() and 0 < len(key) < LONGEST_KEY - 10:
        case.headers[KEY] = f"{key}.{next(numbers)}"


@schemathesis.check
def refused_with_a_reason(context: CheckContext, response: Response, case: Case) -> bool | None:
    """Let a request that the document allows be refused, but only for what a document cannot say."""
    try:
        return positive_data_acceptance(context, response, case)
    except Failure:
        found = set(reasons(response))
        if found <= REASONS or (has_whole_float(case.body) and found <= REASONS | {"wrong_type"}):
            return None
        if found == {"bad_request"} and has_odd_tags(case.headers or {}):
            return None
        raise


def reasons(response: Response) -> Iterator[str]:
    """Yield the codes of the causes of a problem, or that of the problem where it names none, as `REASONS` has them."""
    if not response.headers.get("content-type", [""])[0].startswith("application/problem+json"):
        yield "no problem document"
        return
    problem = response.json()
    for cause in problem.get("errors", [problem]):
        place = str(cause.get("parameter", cause.get("pointer")))
        placed = f"{'result' if place.startswith('/$') else place}: {cause['code']}"
        yield placed if placed in REASONS else cause["code"]


TAGS = re.compile(r'[ \t,]*(\*|(W/)?"[!#-~]*"([ \t]*,[ \t,]*(W/)?"[!#-~]*")*)[ \t,]*')


def has_odd_tags(headers: Mapping[str, Any]) -> bool:
    """Tell whether a condition is no list of entity tags, of which the document says only that it is a string."""
    conditions = (text for name, text in headers.items() if name.lower() in ("if-match", "if-none-match"))
    return any(TAGS.fullmatch(str(text)) is None for text in conditions)


def has_whole_float(value: Any) -> bool:
    """Tell whether a body holds a number such as 1.0, which JSON Schema takes for a whole one and Madang does not."""
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (isinstance(value, float) and value.is_integer()) or any(map(has_whole_float, members))
