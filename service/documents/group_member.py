"""Members of groups, as their group sees them, and memberships, as their account does."""

from mongoengine import DateTimeField, EmbeddedDocument, StringField


class GroupMember(EmbeddedDocument):
    """A member of a group."""

    account = StringField(required=True, help_text="account id")
    username = StringField(help_text="null for a guest")
    display_name = StringField()
    role = StringField(required=True, choices=("member", "manager"))
    since = DateTimeField(required=True)


class GroupMembership(EmbeddedDocument):
    """A group that an account is a member of."""

    group = StringField(required=True, help_text="group id")
    role = StringField(required=True, choices=("member", "manager"))
    since = DateTimeField(required=True)
