"""The languages in which people are written to, and which of them a request asks for."""

import re

from service.http.web import current_request

LANGUAGES = ("en", "ko")


LANGUAGE_TAG = re.compile("[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}")
"""A language tag (RFC 5646, section 2.1) of a length that people have."""


def sent_language() -> str | None:
    """Return the language that the request at hand prefers, whether we know it or not; None where it names none."""
    found = current_request().accept_languages.best
    return found if found is not None and LANGUAGE_TAG.fullmatch(found) else None


def asked_language() -> str:
    """Return the language that the request at hand prefers (RFC 9110, section 12.5.4), English where it names none."""
    return current_request().accept_languages.best_match(LANGUAGES, LANGUAGES[0])
