"""Where admins sign in: by name and password and a second factor, or the first one by the link of a first start."""

import time
from typing import Any

from flask import current_app, request

from service.context import g
from service.core.errors import (
    AlreadyExists,
    BadCredentials,
    Forbidden,
    NotAuthenticated,
    SecondFactorRequired,
    TooManyRequests,
    ValidationFailed,
)
from service.documents import Event
from service.http.arguments import take
from service.http.openapi import operation
from service.http.web import Answer
from service.identity.admin_log import AdminLog
from service.identity.codes import LONGEST_SENT
from service.identity.first_admin import FIRST_PATH, is_without_admin
from service.identity.passwords import MAX_SENT
from service.pages.account import ABOUT, FORM_TYPE, LinkArguments, spoken
from service.pages.console_visit import (
    CONSOLE_COOKIE,
    IDLE_VISIT,
    SIGN_IN,
    Visitor,
    console_page,
    find_visitor,
    for_admins,
    go,
)
from service.pages.cookie import CookieContent, fresh_visit, is_own_form
from service.security import security

CONSOLE_DEVICE = "Admin console"
LONGEST_TYPED_NAME = 254
BY_FORM: dict[str, Any] = {"body": {"type": "object"}, "body_type": FORM_TYPE}
MISTAKES: dict[type[Exception], str] = {
    TooManyRequests: "busy",
    Forbidden: "locked",
    BadCredentials: "wrong",
    NotAuthenticated: "wrong",
}


@operation("Show where admins sign in", **ABOUT)
def sign_in_page() -> Answer:
    """Show the form; who is signed in is led on."""
    if find_visitor() is not None:
        return go("/admin")
    held = CONSOLE_COOKIE.visit()
    return asked_to_sign_in({name: held[name] for name in ("back", "csrf") if held.get(name)})


@operation("Sign in to the console", **BY_FORM, **ABOUT)
def sign_in() -> Answer:
    """Take name and password, or the second factor that is asked for after them."""
    held, sent = CONSOLE_COOKIE.visit(), request.form
    if not is_own_form(held, sent.get("csrf", "")):
        return asked_to_sign_in(held, "foreign_form")
    try:
        if "challenge" in held:
            code = sent.get("code", "")[:LONGEST_SENT]
            tokens = security().enter_by_second_factor(held["challenge"], code, g.address)
        else:
            name, password = sent.get("username", "")[:LONGEST_TYPED_NAME], sent.get("password", "")[:MAX_SENT]
            account = security().log_in(name, password, g.address, CONSOLE_DEVICE)
            tokens = security().enter(account, g.address, CONSOLE_DEVICE)
    except SecondFactorRequired as asked:
        return asked_to_sign_in({**held, "challenge": asked.members["challenge"]})
    except tuple(MISTAKES) as problem:
        mistake = next(told for kind, told in MISTAKES.items() if isinstance(problem, kind))
        # A wrong code spends a try; who has used them all up begins anew.
        return asked_to_sign_in(held, mistake)
    return entered(tokens, held.get("back", "/admin"))


def asked_to_sign_in(held: CookieContent, mistake: str = "") -> Answer:
    """Return the page that asks for what is still to be given."""
    kept = held if held.get("csrf") else fresh_visit(held)
    made = console_page(
        "console/sign_in.html",
        spoken(None),
        csrf=kept["csrf"],
        mistake=mistake,
        by_code="challenge" in held,
        is_without_admin=current_app.config["ENVIRONMENT"] == "local" and is_without_admin(),
    )
    return CONSOLE_COOKIE.send_back(made, kept)


def entered(tokens: dict[str, Any], back: str) -> Answer:
    """Return the way into the console with a session that was just opened, or that this account may not enter it.

    Its tokens go nowhere: the cookie names the session, and all that was in it before is gone.
    """
    claims = security().tokens.verify(tokens["access_token"])
    found = security().current_identity(claims)
    who = found.in_console
    if who is None:
        security().sessions.end(found.account, only=found.session)
        return asked_to_sign_in({"back": back}, "no_admin")
    security().sessions.keep(who.session, IDLE_VISIT)
    AdminLog(who, g.address, g.request_id).note("signed_in", "console")
    moment = int(time.time())
    held = {"account": who.account, "session": who.session, "auth_time": who.auth_time, "renewed": moment}
    return CONSOLE_COOKIE.send_back(go(back), fresh_visit(held))


@operation("Sign out of the console", **BY_FORM, **ABOUT)
@for_admins
def sign_out(visitor: Visitor) -> Answer:
    """End the session."""
    security().sessions.end(visitor.who.account, only=visitor.who.session)
    Event.record(visitor.who.account, "logout", g.address, CONSOLE_DEVICE)
    return CONSOLE_COOKIE.forget(go(SIGN_IN))


# --- The first one ---------------------------------------------------------------------------------------------------


@operation("Follow the link of a first start", parameters=LinkArguments, **ABOUT)
def first_page() -> Answer:
    """Show the form that makes the first admin; the link is exchanged for a cookie first."""
    token = take(LinkArguments, "query").token
    if token is not None:
        return CONSOLE_COOKIE.send_back(go(FIRST_PATH), fresh_visit({"first": token}))
    return asked_for_first(CONSOLE_COOKIE.visit())


@operation("Make the first admin", **BY_FORM, **ABOUT)
def make_first() -> Answer:
    """Make the account that the form asks for, and sign it in."""
    held, sent = CONSOLE_COOKIE.visit(), request.form
    if "first" not in held or not is_own_form(held, sent.get("csrf", "")):
        return asked_for_first(held)
    name, password = sent.get("username", "")[:LONGEST_TYPED_NAME], sent.get("password", "")[:MAX_SENT]
    try:
        security().throttle.sign_up(g.address)
        account = security().first_admin.make(held["first"], name, password, security().hashing, g.address)
    except (ValidationFailed, AlreadyExists) as problem:
        return asked_for_first(held, problem.causes, name)
    except TooManyRequests:
        return asked_for_first(held, mistake="busy", name=name)
    if account is None:
        return asked_for_first({})
    return entered(security().enter(account, g.address, CONSOLE_DEVICE), "/admin")


def asked_for_first(held: CookieContent, causes: Any = (), name: str = "", mistake: str = "") -> Answer:
    """Return the form, or that the link is void."""
    is_void = not security().first_admin.is_ours(held.get("first", "")) or not is_without_admin()
    template = "console/void.html" if is_void else "console/first.html"
    values = {"csrf": held.get("csrf"), "causes": causes, "name": name, "mistake": mistake}
    return console_page(template, spoken(None), **values)
