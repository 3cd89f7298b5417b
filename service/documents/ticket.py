"""Tickets: what a browser opens a live connection with, where it cannot send a header."""

from mongoengine import DateTimeField, Document, IntField, StringField


class Ticket(Document):
    """Stands for a session, for some seconds and once. Who spends it deletes it; the ticket itself is nowhere."""

    id = StringField(primary_key=True, help_text="SHA-256 of the ticket")
    account = StringField(required=True)
    session = StringField(required=True)
    auth_time = IntField(required=True)
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "tickets",
        "auto_create_index": False,
        "indexes": [{"fields": ["expires_at"], "expireAfterSeconds": 0}],
    }
