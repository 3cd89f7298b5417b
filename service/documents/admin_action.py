"""What admins did in the console, and with webhooks: whose records they read, and what they changed."""

from datetime import timedelta

from mongoengine import DateTimeField, Document, StringField

KEPT_FOR = timedelta(days=365)


class AdminAction(Document):
    """One thing that an admin did."""

    id = StringField(primary_key=True)
    account = StringField(required=True, help_text="the admin")
    time = DateTimeField(required=True)
    action = StringField(required=True, help_text="read, created, changed, deleted, …")
    subject = StringField(required=True, help_text="what it was done to: a record type, accounts, outbox, …")
    target = StringField(help_text="the id of the one that it was done to")
    owner = StringField(help_text="the account whose data these are; what is told of them goes with it")
    # JSON texts of what was there and what is there now; of a change of the fields that it is about.
    before = StringField()
    after = StringField()
    address = StringField()
    request_id = StringField()
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "admin_actions",
        "auto_create_index": False,
        "indexes": [
            ("account", "-id"),
            {"fields": ["owner"], "sparse": True},
            {"fields": ["expires_at"], "expireAfterSeconds": 0},
        ],
    }
