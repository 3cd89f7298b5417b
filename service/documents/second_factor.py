"""Second factors: what an account asks for beside its way in."""

from mongoengine import BinaryField, DateTimeField, EmbeddedDocument, ListField, LongField, StringField


class SecondFactor(EmbeddedDocument):
    """The secret that an authenticator app shares with us, and what gets in without the app.

    It is a part of its account, so that a code is taken, and the factor switched on or off, by one conditional write.
    """

    id = StringField(required=True)
    # The secret, encrypted with a key that is not in the database.
    sealed = BinaryField(required=True)
    # The last time step (RFC 6238) whose code was taken: none of it or before it is taken again.
    step = LongField(required=True)
    recovery_hashes = ListField(StringField())
    created_at = DateTimeField(required=True)
