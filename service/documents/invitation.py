"""Invitations: what brings people into a group by themselves."""

from mongoengine import DateTimeField, Document, IntField, ListField, StringField

from service.documents.group_member import GroupMember


class Invitation(Document):
    """A code and a link by which so many accounts may join a group; what is stored of these are hashes."""

    id = StringField(primary_key=True)
    group = StringField(required=True, help_text="group id")
    role = StringField(required=True, choices=GroupMember.role.choices)
    email = StringField(help_text="whom it is for alone: the account with this verified address")
    uses = IntField(required=True, help_text="how many accounts may join by it")
    left = IntField(required=True, help_text="how many of these have not yet")
    inviter = StringField(required=True, help_text="account id of the manager who made it")
    created_at = DateTimeField(required=True)
    expires_at = DateTimeField(required=True)

    # The key of the address: see `address_key`.
    email_key = StringField(hidden=True)
    code_hash = StringField(required=True, hidden=True)
    token_hash = StringField(required=True, hidden=True)
    # The accounts that have joined by it: each can once, so who was removed does not come back by it.
    taken_by = ListField(StringField(), hidden=True)

    meta = {
        "collection": "invitations",
        "auto_create_index": False,
        "indexes": [
            {"fields": ["code_hash"], "unique": True},
            {"fields": ["token_hash"], "unique": True},
            ("group", "inviter"),
            "inviter",
            "taken_by",
            {"fields": ["expires_at"], "expireAfterSeconds": 0},
        ],
    }
