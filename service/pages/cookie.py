"""The cookies of the pages: what somebody came with, and what shows that a form was sent by their own page."""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flask import current_app
from itsdangerous import BadSignature, URLSafeTimedSerializer

from service.http.web import Answer, current_request
from service.identity.codes import CODE_MINUTES
from service.security import security

CookieContent = Mapping[str, Any]
"""What a cookie holds."""


@dataclass(frozen=True, slots=True)
class PageCookie:
    """A signed cookie of the pages below a path, which holds for so many seconds what they go by.

    `purpose` names the key that signs it. What was signed with a former secret is good too.
    """

    name: str
    path: str
    seconds: int
    purpose: str
    same_site: Literal["Lax", "Strict"]

    def signer(self) -> URLSafeTimedSerializer:
        """Return what signs it."""
        return URLSafeTimedSerializer([key.hex() for key in reversed(security().keys.each(self.purpose))])

    def visit(self) -> dict[str, Any]:
        """Return what the cookie of the request at hand holds; nothing where there is none, or it is not ours."""
        try:
            found: Any = self.signer().loads(current_request().cookies.get(self.name, ""), max_age=self.seconds)
        except BadSignature:
            return {}
        return found if isinstance(found, dict) else {}

    def send_back(self, answer: Answer, held: CookieContent) -> Answer:
        """Have the browser send back what is held, to the pages alone, and where they are HTTPS only so."""
        answer.set_cookie(
            self.name,
            self.signer().dumps(dict(held)),
            max_age=self.seconds,
            path=self.path,
            secure=over_tls_alone(),
            httponly=True,
            samesite=self.same_site,
        )
        return answer

    def forget(self, answer: Answer) -> Answer:
        """Have the browser forget the cookie."""
        answer.delete_cookie(self.name, path=self.path)
        return answer


# Lax: a link in a mail program comes from another site, and what it leads to has to see the cookie.
ACCOUNT_COOKIE = PageCookie("madang_account", "/account", CODE_MINUTES * 60, "pages", "Lax")
"""What a link was exchanged for; it is gone with the link that it stands for."""


def over_tls_alone() -> bool:
    """Tell whether a cookie of ours may go over TLS alone; but on a developer's own machine there may be none."""
    base = security().addresses.links.base
    return base.startswith("https:") or (not base and current_app.config["ENVIRONMENT"] != "local")


def fresh_visit(kept: CookieContent) -> dict[str, Any]:
    """Return what a cookie holds from here on: what is `kept`, and a new secret against forged forms."""
    return {**kept, "csrf": secrets.token_urlsafe(16)}


def is_own_form(held: CookieContent, csrf: str) -> bool:
    """Tell whether a form was sent by the page that we gave to this browser, and not by a page of others."""
    from_elsewhere = current_request().headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
    return not from_elsewhere and bool(csrf) and hmac.compare_digest(held.get("csrf", "").encode(), csrf.encode())
