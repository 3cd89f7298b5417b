"""People who write without pause, and keep in a ledger what they were told."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from typing import Any

import requests

from chaos.client import Client, SignedOut, Watch
from chaos.ledger import Done, Ledger, Outcome

FULL = 5
"""The highest priority of a note: what is added beyond it is refused."""


class Pool:
    """Notes that everybody adds to, a new one when one is full."""

    def __init__(self, owner: Client) -> None:
        self.owner = owner
        self.lock = threading.Lock()
        self.number = count()
        self.current = self.renewed()

    def renewed(self) -> str:
        """Make a note that everybody may write; return its id."""
        while True:
            name = f"pool-{next(self.number)}"
            body = {"id": name, "title": name, "writers": ["*"]}
            answer = self.owner.send("POST", "/v1/notes", body, key=name)
            if answer is not None and answer.status_code == 201:
                return name

    def full(self, name: str) -> None:
        """Go on with another note, unless somebody else has done that."""
        with self.lock:
            if self.current == name:
                self.current = self.renewed()


class Writer:
    """One account that does every kind of write, one after the other, and reads what it wrote."""

    def __init__(self, name: str, client: Client, ledger: Ledger, pool: Pool) -> None:
        self.name, self.client, self.ledger, self.pool = name, client, ledger, pool
        self.numbers = count()
        self.own: dict[str, str] = {}
        """Title by id of the records whose state is known for certain."""
        self.kinds: list[Callable[[str], None]] = [
            *(self.create, self.create, self.add, self.add, self.replace, self.delete),
            *(self.take_taken, self.change_stale, self.batch, self.atomic, self.atomic_that_fails, self.read),
        ]

    def work(self, ended: threading.Event) -> None:
        """Write until the run ends."""
        while not ended.is_set():
            try:
                self.client.draw.choice(self.kinds)(f"{self.name}.{next(self.numbers)}")
            except SignedOut as error:
                self.client.watch.breach(f"{self.name} was signed out: {error}")
                return

    def write(self, method: str, path: str, body: Any, key: str, **headers: str) -> requests.Response | None:
        """Send a write under a key, and keep it when it was acknowledged."""
        answer: requests.Response | None = self.client.send(method, path, body, key, **headers)
        if answer is not None and answer.status_code < 300:
            done = (method, path, body, key, self.client.access, answer.status_code, answer.content)
            self.ledger.keep(Done(*done))
        return answer

    def outcome(self, answer: requests.Response | None, success: int, *refusals: int) -> Outcome:
        """Return what an answer means; one that cannot be is a breach."""
        if answer is None:
            return "unknown"
        return self.outcome_of(answer.status_code, answer.text, success, *refusals)

    def outcome_of(self, status: int, text: object, success: int, *refusals: int) -> Outcome:
        """Return what a status means; one that cannot be is a breach."""
        if status == success:
            return "acknowledged"
        if status not in refusals:
            self.client.watch.breach(f"{self.name}: {status} where {(success, *refusals)} was due: {text}")
        return "refused"

    # --- The kinds of writes -----------------------------------------------------------------------------------------

    def create(self, key: str) -> None:
        """Make a note under an id of the server's."""
        answer = self.write("POST", "/v1/notes", {"title": key}, key)
        self.ledger.note(key, self.outcome(answer, 201))

    def add(self, key: str) -> None:
        """Add to a note that everybody adds to."""
        name = self.pool.current
        answer = self.write("PATCH", f"/v1/notes/{name}", {"$inc": {"priority": 1}}, key)
        outcome = self.outcome(answer, 200, 422)
        self.ledger.add(name, outcome)
        if outcome == "refused" or (outcome == "acknowledged" and answer and answer.json()["priority"] == FULL):
            self.pool.full(name)

    def replace(self, key: str) -> None:
        """Replace a note of one's own, or make one."""
        name = self.client.draw.choice([key, *self.own])
        answer = self.write("PUT", f"/v1/notes/{name}", {"title": key}, key)
        self.settle(name, key, self.outcome(answer, 200 if name in self.own else 201))

    def delete(self, key: str) -> None:
        """Delete a note of one's own."""
        if self.own:
            name = self.client.draw.choice(list(self.own))
            answer = self.write("DELETE", f"/v1/notes/{name}", None, key)
            self.settle(name, None, self.outcome(answer, 204))

    def settle(self, name: str, title: str | None, outcome: Outcome) -> None:
        """Keep what became of a note of one's own; it is left alone from now on where that is not known."""
        self.ledger.change(name, title, outcome)
        self.own.pop(name, None)
        if title is not None and outcome == "acknowledged":
            self.own[name] = title

    def take_taken(self, key: str) -> None:
        """Try to make a note under an id that is taken."""
        for name in list(self.own)[:1]:
            answer = self.write("POST", "/v1/notes", {"id": name, "title": key}, key)
            self.ledger.note(key, self.outcome(answer, 201, 409))

    def change_stale(self, key: str) -> None:
        """Try to change a note at a revision that it does not have."""
        for name in list(self.own)[:1]:
            answer = self.write("PATCH", f"/v1/notes/{name}", {"title": key}, key, If_Match='"999"')
            self.ledger.note(key, self.outcome(answer, 200, 412))

    def batch(self, key: str) -> None:
        """Send three writes at once, each for itself."""
        pool = self.pool.current
        parts = [
            {"method": "POST", "path": "/v1/notes", "body": {"title": f"{key}-a"}},
            {"method": "PATCH", "path": f"/v1/notes/{pool}", "body": {"$inc": {"priority": 1}}},
            {"method": "PUT", "path": f"/v1/notes/{key}-b", "body": {"title": key}},
        ]
        answer = self.write("POST", "/v1/batch", {"requests": parts}, key)
        dues = ((201,), (200, 422), (201,))
        found = zip(answer.json()["responses"] if answer else [None] * 3, dues, strict=True)
        made, added, put = (
            self.outcome_of(part["status"], part["body"], *due) if part else "unknown" for part, due in found
        )
        self.ledger.note(f"{key}-a", made)
        self.ledger.add(pool, added)
        self.settle(f"{key}-b", key, put)
        if added == "refused":
            self.pool.full(pool)

    def atomic(self, key: str) -> None:
        """Make two notes, or none."""
        self.all_or_none(key, {"method": "POST", "path": "/v1/notes", "body": {"title": f"{key}-b"}}, (201, 201))

    def atomic_that_fails(self, key: str) -> None:
        """Try to make a note together with something that cannot be done."""
        self.all_or_none(key, {"method": "PATCH", "path": "/v1/notes/none", "body": {"title": f"{key}-b"}}, (424, 404))

    def all_or_none(self, key: str, second: dict[str, Any], due: tuple[int, int]) -> None:
        """Send an atomic batch of a create and a `second` write."""
        parts = [{"method": "POST", "path": "/v1/notes", "body": {"title": f"{key}-a"}}, second]
        answer = self.write("POST", "/v1/batch", {"requests": parts, "atomic": True}, key)
        outcome: Outcome = "unknown"
        if answer is not None:
            found = [part["status"] for part in answer.json().get("responses", ())]
            outcome = "acknowledged" if found == [201, 201] else "refused"
            if tuple(found) != due:
                self.client.watch.breach(f"{self.name}: {found} where {due} was due: {answer.text}")
        for half in "ab":
            self.ledger.note(f"{key}-{half}", outcome)

    def read(self, _key: str) -> None:
        """Read a note of one's own, which has to be as it was acknowledged."""
        for name, title in list(self.own.items())[-1:]:
            answer = self.client.send("GET", f"/v1/notes/{name}")
            if answer is not None and (answer.status_code != 200 or answer.json()["title"] != title):
                self.client.watch.breach(f"{self.name} read {answer.status_code} {answer.text}, not {title}")


class Traveller:
    """Somebody who refreshes all the time, loses every answer once, signs out and in again."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def work(self, ended: threading.Event) -> None:
        """Travel until the run ends."""
        try:
            for number in count():
                if ended.is_set():
                    return
                self.refresh_twice()
                if number % 20 == 19:
                    self.sign_out_and_in()
        except SignedOut as error:
            self.client.watch.breach(f"the traveller was signed out: {error}")

    def refresh_twice(self) -> None:
        """Refresh, and once more with the same token, as after an answer that was lost."""
        spent, begun = self.client.refresh_token, time.monotonic()
        if not self.client.refresh():
            return
        following, self.client.refresh_token = self.client.refresh_token, spent
        if time.monotonic() - begun < 10 and self.client.refresh() and self.client.refresh_token != following:
            self.client.watch.breach("a refresh that was sent again had another answer")
        self.client.refresh_token = following

    def sign_out_and_in(self) -> None:
        """End the session, look that it is dead a second later, and begin another."""
        ended = self.client.attempt("POST", "/auth/logout", key=None)
        self.look_ended(ended)
        self.client.log_in()

    def look_ended(self, ended: requests.Response | None) -> None:
        """Ask with the token of a session whose end was acknowledged."""
        if ended is not None and ended.status_code == 204:
            time.sleep(1)
            for _ in self.client.bases:
                answer = self.client.attempt("GET", "/v1/notes")
                if answer is not None and answer.status_code != 401:
                    self.client.watch.breach(f"an ended session was let in: {answer.status_code}")


class Probe:
    """Somebody who writes without a key and without patience, to find the moment from which it works again."""

    def __init__(self, client: Client, ledger: Ledger) -> None:
        self.client, self.ledger = client, ledger
        self.successes: list[tuple[float, float]] = []
        """When a write that came through was sent and answered, by the monotonic clock."""

    def work(self, ended: threading.Event) -> None:
        """Probe until the run ends."""
        for title in titles("probe", self.client.draw):
            if ended.wait(0.05):
                return
            begun = time.monotonic()
            answer = self.client.once("POST", "/v1/notes", {"title": title}, {})
            if answer is not None and answer.status_code == 401:
                self.client.refresh()
            elif answer is not None and answer.status_code == 201:
                self.ledger.note(title, "acknowledged")
                self.successes.append((begun, time.monotonic()))
            else:
                self.ledger.note(title, "unknown")

    def recovery(self, moment: float) -> float | None:
        """Return the seconds from a `moment` to the answer of the first write sent after it that came through."""
        return min((ended - moment for begun, ended in list(self.successes) if begun > moment), default=None)

    def longest_gap(self, moment: float) -> float:
        """Return the longest time in seconds, since a `moment`, in which no write came through."""
        times = [moment, *(ended for _, ended in list(self.successes) if ended > moment)]
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def titles(prefix: str, draw: random.Random) -> Iterator[str]:
    """Yield titles that nobody else has."""
    run = f"{prefix}-{draw.getrandbits(32):08x}"
    return (f"{run}.{number}" for number in count())


def person(bases: list[str], watch: Watch, seed: int) -> Client:
    """Return a client of a new account that is signed in; the same seed draws the same lot."""
    client = Client(bases, watch, random.Random(seed))
    client.sign_up()
    return client
