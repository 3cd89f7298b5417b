"""Security events: what happened to an account, for its owner to read."""

from datetime import timedelta

from mongoengine import DateTimeField, Document, StringField

from service.core.clock import now
from service.core.ids import new_id

KEPT_FOR = timedelta(days=90)


class Event(Document):
    """Something that concerns the safety of an account."""

    id = StringField(primary_key=True)
    account = StringField(required=True, hidden=True)
    time = DateTimeField(required=True)
    kind = StringField(required=True, help_text="sign_up, login, login_failed, refresh_reused, session_ended, …")
    address = StringField()
    device = StringField()
    expires_at = DateTimeField(required=True, hidden=True)

    meta = {
        "collection": "events",
        "auto_create_index": False,
        "indexes": [("account", "-time"), {"fields": ["expires_at"], "expireAfterSeconds": 0}],
    }

    @classmethod
    def record(cls, account: str, kind: str, address: str | None = None, device: str | None = None) -> None:
        """Store that `kind` happened to an account, from an address and on a device."""
        moment = now()
        event = {"_id": new_id(), "account": account, "time": moment, "kind": kind, "expires_at": moment + KEPT_FOR}
        cls._get_collection().insert_one({**event, "address": address, "device": device})
