"""A visit of the console: who is signed in there, and the guard that each of its pages stands behind.

The cookie names a session like any other: it ends with a log-out, a change of the password and a lock, and the role is
looked up with it, so within a second nobody is let in who may not be. No token of it has left the service.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any

from flask import current_app, redirect, render_template, request

from service.context import g
from service.core.errors import BadRequest, Problem
from service.http.web import Answer, current_request
from service.identity.accounts import locale_of
from service.identity.admin_log import AdminLog
from service.pages.account import SEE_OTHER, as_page, spoken
from service.pages.console_texts import CONSOLE_TEXTS, NAVIGATION
from service.pages.cookie import CookieContent, PageCookie, is_own_form
from service.policy import Identity
from service.security import security

CONSOLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
IDLE_VISIT = timedelta(minutes=30)
"""After so long without a request a visit ends."""
LONGEST_VISIT = timedelta(hours=12)
"""After so long it ends in any case."""
RENEWED_AFTER = 60
"""Seconds after which the end is moved on."""
# Strict: nobody comes from another site with it, be it by a link.
CONSOLE_COOKIE = PageCookie("madang_admin", "/admin", int(IDLE_VISIT.total_seconds()), "console", "Strict")
SIGN_IN = "/admin/sign-in"
OWN_PATH = re.compile(r"/admin(/[A-Za-z0-9_.~-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Visitor:
    """An admin who is signed in: as whom records are read and written, what the cookie holds, and the log."""

    who: Identity
    held: CookieContent
    log: AdminLog
    language: str

    @property
    def csrf(self) -> str:
        """What a form of ours sends along."""
        return str(self.held["csrf"])

    def shown(self, template: str, status: int = 200, **values: Any) -> Answer:
        """Return a page of the console."""
        return console_page(template, self.language, status, csrf=self.csrf, admin=self.who.account, **values)


PageView = Callable[..., Any]


def for_admins(view: PageView) -> PageView:
    """Let admins alone come to a page, and forms of our own; what goes wrong is told on a page."""

    @wraps(view)
    def guarded(**kwargs: Any) -> Answer:
        visitor = find_visitor()
        if visitor is None:
            return away()
        try:
            if current_request().method == "POST" and not is_own_form(visitor.held, request.form.get("csrf", "")):
                raise BadRequest(CONSOLE_TEXTS[visitor.language]["foreign_form"])
            answer = view(visitor, **kwargs)
        except Problem as problem:
            answer = visitor.shown("console/problem.html", problem.status, problem=problem)
        return renewed(visitor, answer)

    return guarded


def find_visitor() -> Visitor | None:
    """Return who is signed in; None where nobody is, the session has ended, or the account is no admin any more."""
    held = CONSOLE_COOKIE.visit()
    if "session" not in held or time.time() - held["auth_time"] > LONGEST_VISIT.total_seconds():
        return None
    found = security().sessions.identity(held["account"], held["session"], held["auth_time"])
    who = None if found is None else found.in_console
    if who is None:
        return None
    g.identity = who
    return Visitor(who, held, AdminLog(who, g.address, g.request_id), spoken(locale_of(who.account)))


def away() -> Answer:
    """Return the way to where one signs in, and from there back to here."""
    sent = current_request()
    back = sent.path if sent.method == "GET" and OWN_PATH.fullmatch(sent.path) else "/admin"
    held = {"csrf": CONSOLE_COOKIE.visit().get("csrf", ""), "back": back}
    return CONSOLE_COOKIE.send_back(go(SIGN_IN), held)


def go(path: str) -> Answer:
    """Return the way to another page: a path of ours, whatever host the request names."""
    return redirect(path, SEE_OTHER, Answer)  # type: ignore[return-value]


def renewed(visitor: Visitor, answer: Answer) -> Answer:
    """Move the end of a visit on, once a minute."""
    moment = int(time.time())
    if moment - visitor.held["renewed"] < RENEWED_AFTER or "Set-Cookie" in answer.headers:
        return answer
    security().sessions.keep(visitor.who.session, IDLE_VISIT)
    return CONSOLE_COOKIE.send_back(answer, {**visitor.held, "renewed": moment})


def console_page(template: str, language: str, status: int = 200, **values: Any) -> Answer:
    """Return a page of the console in a language."""
    about = {"text": CONSOLE_TEXTS[language], "language": language, "app_name": current_app.config["APP_NAME"]}
    about["navigation"] = NAVIGATION
    return as_page(render_template(template, **{**about, **values}), CONSOLE_POLICY, status)
