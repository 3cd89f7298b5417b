"""A client that behaves as docs/clients.md says: keys, jitter, `Retry-After`, an attempt budget, refresh."""

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

PASSWORD = "correct horse battery"
TRIES = 8
TIMEOUT = 15.0
HURRY = 1.0
"""The longest pause between two tries, in seconds, when the run has ended and all is up again."""
PASSING = frozenset({408, 429, 502, 503, 504})
STALE = frozenset({"token_expired", "not_authenticated"})
PUBLIC = frozenset({"/auth", "/auth/refresh", "/v1/accounts"})


class SignedOut(Exception):
    """A refresh was answered with 401: the session is over."""


@dataclass
class Watch:
    """What all clients of a run saw: answers by status, breaches of the contract, and when writes came through."""

    answers: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)
    successes: list[float] = field(default_factory=list)
    slowest: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when nobody shall begin anything more."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def saw(self, method: str, path: str, answer: requests.Response, seconds: float) -> None:
        """Count an answer and check what holds for every one of them."""
        with self.lock:
            self.answers[str(answer.status_code)] += 1
            self.slowest = max(self.slowest, seconds)
            if method != "GET" and answer.status_code < 300:
                self.successes.append(time.monotonic())
        if answer.status_code >= 500 and (answer.status_code != 503 or "Retry-After" not in answer.headers):
            self.breach(f"{method} {path}: {answer.status_code} {answer.text[:300]}")

    def nothing(self, error: requests.RequestException) -> None:
        """Count a request that got no answer."""
        with self.lock:
            self.answers[type(error).__name__] += 1

    def breach(self, what: str) -> None:
        """Note that a promise was broken."""
        with self.lock:
            self.breaches.append(what)

    def first_success_after(self, moment: float) -> float | None:
        """Return the seconds from a `moment` of the monotonic clock to the next write that came through."""
        with self.lock:
            return min((time - moment for time in self.successes if time > moment), default=None)


class Client:
    """Somebody's phone, which knows all servers, as it would through a load balancer. Not for several threads."""

    def __init__(self, bases: Sequence[str], watch: Watch, draw: random.Random, tries: int = TRIES) -> None:
        self.bases = bases
        self.watch = watch
        self.draw = draw
        self.tries = tries
        self.http = requests.Session()
        self.username = ""
        self.access = ""
        self.refresh_token = ""

    def sign_up(self) -> str:
        """Make an account and log in; return its id."""
        self.username = f"u{uuid.UUID(int=self.draw.getrandbits(128)).hex}"
        body = {"username": self.username, "password": PASSWORD}
        answer = self.attempt("POST", "/v1/accounts", body, key=self.username)
        if answer is None or answer.status_code != 201:
            raise RuntimeError(f"nobody can sign up: {answer and answer.text}")
        self.log_in()
        return str(answer.json()["id"])

    def log_in(self) -> None:
        """Get the tokens of a new session."""
        answer = self.attempt("POST", "/auth", {"username": self.username, "password": PASSWORD})
        if answer is None or answer.status_code != 200:
            raise SignedOut(f"login: {answer and answer.text}")
        self.keep(answer.json())

    def keep(self, tokens: Mapping[str, str]) -> None:
        """Take over the tokens of an answer."""
        self.access, self.refresh_token = tokens["access_token"], tokens["refresh_token"]

    def refresh(self) -> bool:
        """Spend the refresh token, again and again until there is an answer; False when none came.

        Raises `SignedOut` when it is refused, which is the loss of a session.
        """
        answer = self.attempt("POST", "/auth/refresh", {"refresh_token": self.refresh_token})
        if answer is None:
            return False
        if answer.status_code != 200:
            raise SignedOut(f"refresh: {answer.text}")
        self.keep(answer.json())
        return True

    def send(self, method: str, path: str, body: Any = None, key: str | None = None, **headers: str) -> Any:
        """Send a request as this person until there is a final answer; None when the attempts are used up."""
        answer = self.attempt(method, path, body, key, **headers)
        if answer is None or answer.status_code != 401 or answer.json()["code"] not in STALE:
            return answer
        return self.attempt(method, path, body, key, **headers) if self.refresh() else None

    def attempt(
        self, method: str, path: str, body: Any = None, key: str | None = None, **headers: str
    ) -> requests.Response | None:
        """Send a request until there is a final answer; None when the attempts are used up."""
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        if key is not None:
            sent["Idempotency-Key"] = key
        for number in range(self.tries):
            answer = self.once(method, path, body, sent)
            if answer is not None and not is_passing(answer):
                return answer
            pause = self.draw.uniform(0, min(30, 0.5 * 2**number))
            asked = 0 if answer is None else int(answer.headers.get("Retry-After", 0))
            if self.watch.ended.wait(max(pause, asked)):
                time.sleep(min(max(pause, asked), HURRY))
        return None

    def once(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> requests.Response | None:
        """Send a request once, to any server; None when nothing comes back."""
        own = {"Authorization": f"Bearer {self.access}"} if self.access and path not in PUBLIC else {}
        begun = time.monotonic()
        try:
            answer = self.http.request(
                method, self.draw.choice(self.bases) + path, json=body, headers={**own, **headers}, timeout=TIMEOUT
            )
        except requests.RequestException as error:
            self.watch.nothing(error)
            return None
        self.watch.saw(method, path, answer, time.monotonic() - begun)
        return answer


def is_passing(answer: requests.Response) -> bool:
    """Tell whether an answer is about the moment: it says when to try again."""
    return answer.status_code in PASSING or "Retry-After" in answer.headers
