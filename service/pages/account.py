"""Where the links of mails lead: to verify an address, set a password, join a group. No page needs JavaScript.

A link is exchanged at once for a cookie, so that its token stands in no address that is shown, kept or sent on. To
follow one changes nothing, for programs that look through mails do it too; what is done is done by a button.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Flask, current_app, redirect, render_template, url_for
from flask.views import MethodView
from pydantic import Field

from service.context import g
from service.core.errors import AlreadyExists, BadCredentials, TooManyRequests, ValidationFailed
from service.documents import Account
from service.http.arguments import Arguments, take
from service.http.languages import LANGUAGES, asked_language
from service.http.openapi import operation
from service.http.web import Answer
from service.identity.addresses import RESET, VERIFY
from service.identity.codes import LONGEST_SENT
from service.identity.passwords import MAX_SENT
from service.model.values import LONGEST_EMAIL, parse_email
from service.mongo import transactions
from service.mongo.raw import Raw
from service.pages import cookie
from service.pages.cookie import ACCOUNT_COOKIE
from service.pages.texts import PAGE_TEXTS
from service.security import security

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HTML = "text/html"
FORM_TYPE = "application/x-www-form-urlencoded"
ABOUT: dict[str, Any] = {"tag": "pages", "public": True, "media_type": HTML}
SEE_OTHER = 303
LEADING_ON: dict[str, Any] = {
    **ABOUT,
    "answer": {200: {"type": "string"}, SEE_OTHER: {"type": "string"}},
    "headers": {SEE_OTHER: ["Location"]},
}
"""Of what shows a page, or leads to another one."""
JOIN = "join"
"""What a visit is for that came with an invitation."""


class VerifyForm(Arguments):
    """The form of the page that verifies an address."""

    csrf: str = Field(default="", max_length=LONGEST_SENT)


class ResetForm(Arguments):
    """The form of the page that sets a password: by the link, or with address and code."""

    csrf: str = Field(default="", max_length=LONGEST_SENT)
    email: str = Field(default="", max_length=LONGEST_EMAIL)
    code: str = Field(default="", max_length=LONGEST_SENT)
    password: str = Field(default="", max_length=MAX_SENT)


class LinkArguments(Arguments):
    """What a link brings."""

    token: str | None = Field(default=None, max_length=LONGEST_SENT)


def init_app(app: Flask) -> None:
    """Give `app` the templates of the pages."""
    app.register_blueprint(Blueprint("pages", __name__, template_folder="templates"))


class VerifyPage(MethodView):
    """Where an address is verified."""

    @operation(
        "Follow a link that verifies an address",
        name="openVerifyPage",
        parameters=LinkArguments,
        **LEADING_ON,
    )
    def get(self) -> Any:
        """Show whose account wants the address, with a button; a link is exchanged for a cookie first."""
        token = take(LinkArguments, "query").token
        if token is not None:
            return exchanged(VERIFY, token, "verify_page")
        found = found_by_cookie(VERIFY)
        return shown("void.html") if found is None else shown_question(found)

    @operation(
        "Verify an address by its page",
        name="sendVerifyPage",
        body=VerifyForm,
        body_type=FORM_TYPE,
        **LEADING_ON,
    )
    def post(self) -> Any:
        """Verify the address whose link was followed."""
        sent, found = take(VerifyForm, "form"), found_by_cookie(VERIFY)
        if found is None:
            return shown("void.html")
        if not cookie.is_own_form(ACCOUNT_COOKIE.visit(), sent.csrf):
            return shown_question(found)
        try:
            changed = transactions.run_where_there_are(lambda: security().addresses.verify(found, g.address))
        except BadCredentials:
            return shown("void.html")
        except AlreadyExists:
            return shown("void.html", reason="taken")
        return finished("verify_done", changed)


class ResetPage(MethodView):
    """Where a password is set."""

    @operation(
        "Follow a link to a new password",
        name="openResetPage",
        parameters=LinkArguments,
        **LEADING_ON,
    )
    def get(self) -> Any:
        """Show the form for a new password: that of a link that was followed, else that for a code."""
        token = take(LinkArguments, "query").token
        if token is not None:
            return exchanged(RESET, token, "reset_page")
        held = ACCOUNT_COOKIE.visit()
        if held.get("purpose") == RESET and found_by_cookie(RESET) is None:
            return ACCOUNT_COOKIE.forget(shown("void.html"))
        return shown_reset(found_by_cookie(RESET))

    @operation(
        "Set a password by its page",
        name="sendResetPage",
        body=ResetForm,
        body_type=FORM_TYPE,
        **LEADING_ON,
    )
    def post(self) -> Any:
        """Set the password of the account whose link was followed, or whose address and code were typed."""
        sent, found = take(ResetForm, "form"), found_by_cookie(RESET)
        if not cookie.is_own_form(ACCOUNT_COOKIE.visit(), sent.csrf):
            return shown_reset(found)
        try:
            code = found or security().addresses.tried_code(RESET, parse_email(sent.email), sent.code, g.address)
            security().addresses.set_password(code, sent.password, g.address)
        except ValidationFailed as problem:
            return shown_reset(found, problem.causes[0].code, sent.email)
        except BadCredentials:
            return shown("void.html") if found is not None else shown_reset(None, "wrong", sent.email)
        except TooManyRequests:
            return shown_reset(found, "busy", sent.email)
        except ValueError:
            return shown_reset(found, "no_address", sent.email)
        return finished("reset_done", code_account(code))


@operation(
    "Follow a link of an invitation",
    name="openJoinPage",
    parameters=LinkArguments,
    **LEADING_ON,
)
def join_page() -> Answer:
    """Show the way into the app, where the invitation is accepted; a link is exchanged for a cookie first.

    Nothing is looked up: whoever guesses would learn it here without being known.
    """
    token = take(LinkArguments, "query").token
    if token is not None:
        return exchanged(JOIN, token, "join_page")
    held = ACCOUNT_COOKIE.visit()
    if held.get("purpose") != JOIN:
        return shown("void.html", reason="join_again")
    return shown("join.html", app_link=with_invitation(current_app.config["APP_LINK"], held.get("token", "")))


def with_invitation(app_link: str, token: str) -> str:
    """Return the link into the app with the token of an invitation beside what it asks already; empty without one."""
    if not app_link:
        return ""
    # Put together from text: the parts of a link of an app's own scheme do not always make the same link again.
    before, hash_mark, fragment = app_link.partition("#")
    return f"{before}{'&' if '?' in before else '?'}invitation={quote(token, safe='')}{hash_mark}{fragment}"


@operation("Read that it is done", name="openDonePage", answer={200: {"type": "string"}}, **ABOUT)
def done_page() -> Answer:
    """Show what was done, and the way back into the app."""
    held = ACCOUNT_COOKIE.visit()
    name = held.get("done", "")
    if name not in ("verify_done", "reset_done"):
        return shown("void.html")
    made = shown("done.html", language=held.get("language"), name=name, address=held.get("address", ""))
    return ACCOUNT_COOKIE.forget(made)


@operation(
    "Get the stylesheet of the pages",
    name="getPagesStyle",
    tag="pages",
    public=True,
    media_type="text/css",
    answer={200: {"type": "string"}},
)
def style() -> Answer:
    """Return the one stylesheet."""
    return kept_file(render_template("style.css"), "text/css")


def kept_file(text: str, media_type: str) -> Answer:
    """Return a file that browsers keep for an hour."""
    made = Answer(text, content_type=f"{media_type}; charset=utf-8")
    made.headers["Cache-Control"] = "public, max-age=3600"
    return made


PAGE_ROUTES: list[tuple[str, Any]] = [
    ("/account/verify", VerifyPage.as_view("verify_page")),
    ("/account/reset", ResetPage.as_view("reset_page")),
    ("/account/join", join_page),
    ("/account/done", done_page),
    ("/account/style.css", style),
]


def exchanged(purpose: str, token: str, endpoint: str) -> Answer:
    """Return the way to the page itself, with the token in the cookie in place of the address."""
    return ACCOUNT_COOKIE.send_back(see(endpoint), cookie.fresh_visit({"purpose": purpose, "token": token}))


def see(endpoint: str) -> Answer:
    """Return the way to another page: its path alone, whatever host the request names."""
    return redirect(url_for(endpoint), SEE_OTHER, Answer)  # type: ignore[return-value]


def found_by_cookie(purpose: str) -> Raw | None:
    """Return what was stored with the link that was followed; None where it is void by now, or none was."""
    held = ACCOUNT_COOKIE.visit()
    is_for = held.get("purpose") == purpose
    return security().addresses.codes.of_token(purpose, held.get("token", "")) if is_for else None


def code_account(found: Raw) -> Raw:
    """Return the account that a code concerns; an empty one where it has gone."""
    return Account._get_collection().find_one({"_id": found["account"]}) or {}


def shown_question(found: Raw) -> Answer:
    """Return the page that asks whether an account may have an address."""
    account = code_account(found)
    name = account.get("username") or account.get("email") or ""
    return shown("verify.html", account.get("locale"), csrf=ACCOUNT_COOKIE.visit().get("csrf"), name=name, found=found)


def shown_reset(found: Raw | None, mistake: str = "", email: str = "") -> Answer:
    """Return the page with the form for a password; without a link it asks for address and code."""
    held = ACCOUNT_COOKIE.visit()
    new = held if "csrf" in held else cookie.fresh_visit({})
    language = None if found is None else code_account(found).get("locale")
    made = shown("reset.html", language, csrf=new["csrf"], found=found, mistake=mistake, email=email)
    return made if new is held else ACCOUNT_COOKIE.send_back(made, new)


def finished(name: str, account: Mapping[str, Any]) -> Answer:
    """Return the way to the page that says what was done; nothing of a token is kept."""
    held = {"done": name, "address": account.get("email") or "", "language": account.get("locale") or ""}
    return ACCOUNT_COOKIE.send_back(see("done_page"), held)


def shown(template: str, language: str | None = None, **values: Any) -> Answer:
    """Return a page in the language of the account, or of the browser."""
    chosen = spoken(language)
    config = current_app.config
    about = {
        "text": PAGE_TEXTS[chosen],
        "language": chosen,
        "app_link": config["APP_LINK"],
        "app_name": config["APP_NAME"],
    }
    return as_page(render_template(template, **{**about, **values}), PAGE_POLICY)


def spoken(language: str | None) -> str:
    """Return the language of the pages for an account that has named one, else for the browser."""
    own = (language or "").partition("-")[0].lower()
    return own if own in LANGUAGES else asked_language()


def as_page(html: str, policy: str, status: int = 200) -> Answer:
    """Return a page under a content security policy."""
    made = Answer(html, status, content_type="text/html; charset=utf-8")
    made.headers["Content-Security-Policy"] = policy
    return made
