"""The sessions of an account, and what happened to it."""

from typing import Any

from service.context import g
from service.core.clock import now
from service.core.errors import NotFound
from service.documents import Event, Session
from service.http.openapi import operation
from service.identity.schemas import EVENT, SESSION, listed
from service.identity.sessions import device_of
from service.resources.resource import Resource
from service.security import current_identity, security

MOST_SESSIONS = 200
"""Each login makes one, and a script may log in all day: the list has an end."""
MOST_EVENTS = 200


def session_list(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of the list of sessions."""
    session = SESSION.json_schema("read")
    current = {"type": "boolean", "description": "the session that asks"}
    item = {**session, "properties": {**session["properties"], "current": current}}
    return listed("SessionList", {**item, "required": [*session["required"], "current"]})


def event_list(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of the list of events."""
    return listed("EventList", EVENT.json_schema("read"))


class SessionList(Resource):
    """Where an account is signed in."""

    @operation("List the own sessions", name="listSessions", answer={200: session_list})
    def get(self) -> dict[str, Any]:
        """Return the newest of the sessions that have not ended, the last used first."""
        own = {"account": str(current_identity), "expires_at": {"$gt": now()}}
        rows = Session._get_collection().find(own, sort=[("last_used_at", -1)], limit=MOST_SESSIONS)
        return {"items": [{**SESSION.dump(row), "current": row["_id"] == current_identity.session} for row in rows]}


class SessionItem(Resource):
    """One session."""

    @operation("End one of the own sessions", name="endSession", answer={204: None})
    def delete(self, id: str) -> tuple[None, int]:
        """Sign out another device, or this one."""
        account = str(current_identity)
        device = device_of(id)
        if not security().sessions.end(account, only=id):
            raise NotFound("there is no such session")
        Event.record(account, "session_ended", g.address, device)
        return None, 204


class EventList(Resource):
    """What happened to an account."""

    @operation("List the own security events", name="listEvents", answer={200: event_list})
    def get(self) -> dict[str, Any]:
        """Return the newest events, the last first."""
        own = {"account": str(current_identity)}
        rows = Event._get_collection().find(own, sort=[("time", -1), ("_id", -1)], limit=MOST_EVENTS)
        return {"items": [EVENT.dump(row) for row in rows]}
