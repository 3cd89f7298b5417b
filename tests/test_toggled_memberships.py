"""Memberships that come and go between two looks of the recorder, with a pull in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest

from service.changes import feed, order, pull, tail
from service.core.errors import FeedUnavailable
from service.documents import Change, Lease
from tests.client import Person
from tests.recording import Recording
from tests.streaming import Served
from tests.test_changes import set_roles
from tests.test_changes_model import late_order, lost_token
from tests.test_live import Listener
from tests.test_rxdb_streams import Replicating
from tests.types import REGISTRY
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("recording")]


class LateDevice:
    """A device whose pulls look at the order before the last writes, as one that began before them."""

    def __init__(self, person: Person, key: bytes) -> None:
        self.person, self.key = person, key
        self.has: dict[str, int] = {}
        self.cursor = ""

    def pull(self) -> None:
        more = True
        while more:
            args = {"types": "notes", **({"cursor": self.cursor} if self.cursor else {})}
            found: Any = pull.parse_pull(REGISTRY, args, self.person.id, self.key).answer(late_order())
            answer = orjson.loads(orjson.dumps(found.as_dict()))
            for item in answer["items"]:
                if "gone" in item:
                    self.has.pop(item["id"], None)
                else:
                    self.has[item["id"]] = item["revision"]
            self.cursor, more = answer["cursor"], answer["more"]


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("way", ["lost and regained", "gained and lost"])
def test_a_role_that_is_toggled_unseen(
    app: Any, ada: Person, bob: Person, recording: Recording, way: str, gap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SETTLES_WITHIN", 0.0)
    token = lost_token()
    device = LateDevice(bob, app.extensions["madang.security"].cursor_key)
    before, between = (("team",), ()) if way == "lost and regained" else ((), ("team",))
    set_roles(bob, *before)
    ada.make_note(id="one", readers=["role:team"])
    recording.catch_up()
    # It has not come so far when the role is another one, for a moment.
    set_roles(bob, *between)
    with suppress(FeedUnavailable):
        device.pull()
    set_roles(bob, *before)
    if gap:
        recording.recorder.close()
        Lease._get_collection().update_one({"_id": order.RECORDER}, {"$set": {"state.token": token}})
    recording.catch_up()
    device.pull()
    listed = bob.get("/v1/notes").json["items"]
    assert device.has == {record["id"]: record["revision"] for record in listed}


@pytest.mark.parametrize("listen", [Listener, Replicating])
def test_who_listens_while_a_role_is_toggled_unseen_misses_nothing(
    streams: Served,
    ada: Person,
    bob: Person,
    recording: Recording,
    monkeypatch: pytest.MonkeyPatch,
    listen: Callable[[Served, Person], Listener | Replicating],
) -> None:
    set_roles(bob, "team")
    ada.make_note(id="shared", readers=["role:team"])
    bob.make_note(id="mine")
    recording.catch_up()
    monkeypatch.setattr(feed, "SETTLES_WITHIN", 30.0)
    heard = listen(streams, bob)
    ada.patch("/v1/notes/shared", {"title": "x"})
    bob.patch("/v1/notes/mine", {"title": "x"})
    set_roles(bob)
    time.sleep(0.2)
    # It comes so far while the role is away, and sees it again when it looks at the account.
    with monkeypatch.context() as patched:
        patched.setattr(tail, "BATCH", 1)
        while Change._get_collection().find_one({"_id": "notes/mine"})["revision"] < 2:
            recording.recorder.step(recording.lease)
    # All that listen are told of a moment when something has happened after it.
    ada.make_note(id="later")
    following, mine = streams.app.following, Change._get_collection().find_one({"_id": "notes/mine"})
    assert following is not None
    until(lambda: following.reached >= mine["seq"])
    set_roles(bob, "team")
    recording.catch_up()
    if listen is Listener:
        until(lambda: ("shared", 2) in heard.told)
    ada.patch("/v1/notes/shared", {"title": "y"})
    recording.catch_up()
    until(lambda: {("mine", 2), ("shared", 3)} <= set(heard.told))


def test_who_listens_while_a_role_is_away_unseen_goes_on_from_before_it(
    streams: Served, ada: Person, bob: Person, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SETTLES_WITHIN", 0.0)
    set_roles(bob, "team")
    ada.make_note(id="shared", readers=["role:team"])
    recording.catch_up()
    heard = Listener(streams, bob).caught_up()
    ada.patch("/v1/notes/shared", {"title": "x"})
    set_roles(bob)
    assert heard.ended(30)
    refused = streams.ask("GET", "/v1/live", {"cursor": heard.last_id}, **bob.headers)
    assert (refused.status, refused.json["code"]) == (503, "feed_unavailable")
    set_roles(bob, "team")
    again = Listener(streams, bob, cursor=heard.last_id).caught_up()
    recording.catch_up()
    again.hears(("shared", 2))
