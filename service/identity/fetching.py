"""Fetching: what is asked of an OpenID provider over HTTP, small, in time or not at all, and without a redirect."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from http.client import HTTPException
from threading import BoundedSemaphore, Thread
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

import orjson

from service.core.errors import ProviderUnavailable
from service.core.log import log

FETCH_SECONDS = 3.0
"""How long a request waits for what is fetched, and each step of it may take."""
LARGEST_DOCUMENT = 256 * 1024
MOST_WAITING = 8
"""Most requests of a process that wait for one provider; those beyond are told to come again."""
FAILURES = (OSError, ValueError, HTTPException)
"""What comes of a server that is away, or does not answer as it should."""
REFUSING = (400, 401)
"""With which status a provider says why it does not do what it is asked (RFC 6749, section 5.2)."""

Fetched = TypeVar("Fetched")


class RefusedByProvider(Exception):
    """The provider has answered, and does not do it; the text is its error code (RFC 6749, section 5.2)."""


class Limited:
    """Has threads of its own ask one provider, few at once, so that a request waits for so long and no longer.

    That holds also where a name is looked up, or an answer comes byte by byte: the thread goes on, and holds its place.
    """

    def __init__(self) -> None:
        self.free = BoundedSemaphore(MOST_WAITING)

    def wait(self, ask: Callable[[], Fetched]) -> Fetched:
        """Return what `ask` does. Raises what it does, `ProviderUnavailable` where that does not come in time."""
        if not self.free.acquire(blocking=False):
            raise ProviderUnavailable
        asked: Future[Fetched] = Future()
        Thread(target=self.fulfil, args=(ask, asked), daemon=True, name="provider").start()
        try:
            return asked.result(FETCH_SECONDS)
        except TimeoutError:
            log.warning("provider_unavailable", reason=f"no answer within {FETCH_SECONDS} s")
            raise ProviderUnavailable from None

    def fulfil(self, ask: Callable[[], Fetched], asked: "Future[Fetched]") -> None:
        """Ask, and hand over what comes of it."""
        try:
            asked.set_result(ask())
        except FAILURES as error:
            log.warning("provider_unavailable", reason=f"{type(error).__name__}: {error}"[:300])
            asked.set_exception(ProviderUnavailable())
        except Exception as error:
            asked.set_exception(error)
        finally:
            self.free.release()


def fetch(url: str, https_only: bool) -> dict[str, Any]:
    """Return the JSON object at a URL. Raises `OSError`, `HTTPException` or `ValueError`."""
    return json_in(bytes_at(url, https_only, None, {}), url)


def post(url: str, https_only: bool, form: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
    """Return what is answered to a form. Raises `RefusedByProvider` beside what `fetch` does."""
    try:
        return bytes_at(url, https_only, urlencode(form).encode(), headers)
    except HTTPError as error:
        with error:
            if error.code not in REFUSING:
                raise
            said = json_in(error.read(LARGEST_DOCUMENT), url).get("error")
            raise RefusedByProvider(said if isinstance(said, str) else "no reason") from None


def may_be_asked(url: str, https_only: bool) -> bool:
    """Tell whether a URL is one of HTTPS, or of HTTP where that will do."""
    return urlsplit(url).scheme in (("https",) if https_only else ("https", "http"))


def bytes_at(url: str, https_only: bool, form: bytes | None, headers: Mapping[str, str]) -> bytes:
    """Return the body at a URL. Raises `OSError`, `HTTPException` or `ValueError`."""
    if not may_be_asked(url, https_only):
        raise ValueError(f"{url[:200]} does not begin with https://")
    end = time.monotonic() + FETCH_SECONDS
    asked = Request(url, form, {"Accept": "application/json", **headers})  # noqa: S310
    with OPENER.open(asked, timeout=FETCH_SECONDS) as answer:
        text = b""
        while piece := answer.read1(65_536):
            text += piece
            if len(text) > LARGEST_DOCUMENT or time.monotonic() > end:
                raise ValueError(f"{url[:200]} is too large, or too slow")
    return text


def json_in(text: bytes, url: str) -> dict[str, Any]:
    """Return a JSON object. Raises `ValueError`."""
    found = orjson.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"{url[:200]} is no JSON object")
    return found


def opener() -> OpenerDirector:
    """Return what asks over HTTP and HTTPS, through the proxy of the environment, and follows no redirect."""
    made = OpenerDirector()
    for handler in (ProxyHandler, HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor):
        made.add_handler(handler())
    return made


OPENER = opener()
