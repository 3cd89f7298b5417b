"""Webhooks: servers of others that are told of changes."""

from mongoengine import BinaryField, BooleanField, DateTimeField, Document, IntField, ListField, StringField

from service.documents.versioned import Versioned

OFF_REASONS = ("gone", "failing")


class Webhook(Versioned):
    """A URL that is called for each change of records of some types, as Standard Webhooks say."""

    id = StringField(primary_key=True)
    url = StringField(required=True)
    # Names of record types; what has none is about all.
    types = ListField(StringField())
    # Conditions that a record has to fulfil, as a client sends them: JSON in a text, for names in it may have dots.
    where = StringField()
    active = BooleanField(required=True)
    # Why it was switched off by the service, and when.
    off_reason = StringField(choices=OFF_REASONS)
    off_at = DateTimeField()
    # Since when no call has been taken.
    failing_since = DateTimeField()
    # Until when its server has asked not to be called.
    rests_until = DateTimeField()
    # The account that is told by mail; gone with it.
    owner = StringField()
    # Its secrets, the newest first, encrypted; until when the older one signs too.
    sealed = BinaryField(required=True)
    old_secret_until = DateTimeField()
    # Which of the places for webhooks it has: so there are never more than those.
    slot = IntField(required=True)
    created_at = DateTimeField(required=True)
    updated_at = DateTimeField(required=True)

    meta = {
        "collection": "webhooks",
        "auto_create_index": False,
        "indexes": [{"fields": ["slot"], "unique": True}, {"fields": ["owner"], "sparse": True}],
    }


class WebhookMatch(Document):
    """A record of which a webhook with conditions was told last that it fulfils them."""

    id = StringField(primary_key=True, help_text="the webhook, the type and the id of the record")
    webhook = StringField(required=True)

    meta = {"collection": "webhook_matches", "auto_create_index": False, "indexes": ["webhook"]}
