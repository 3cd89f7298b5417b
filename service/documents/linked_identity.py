"""Linked identities: by which of a provider's users an account can be entered."""

from mongoengine import BinaryField, DateTimeField, EmbeddedDocument, StringField


class LinkedIdentity(EmbeddedDocument):
    """Somebody whom an OpenID provider knows, by issuer and subject: an address is not who somebody is.

    It is a part of its account, so that what may be done to it hangs on one document: it is never taken away as the
    last way in while the password goes too, and an account that is deleted has none from that moment on.
    """

    id = StringField(required=True)
    # A hash of issuer and subject: it belongs to one account.
    key = StringField(required=True)
    provider = StringField(required=True)
    issuer = StringField(required=True)
    subject = StringField(required=True)
    # As the provider told it at the last sign-in.
    email = StringField()
    # What the provider gave last that has to be given back: encrypted, for the item of the outbox that will do it.
    token_item = StringField()
    token_sealed = BinaryField()
    created_at = DateTimeField(required=True)
    last_used_at = DateTimeField(required=True)
