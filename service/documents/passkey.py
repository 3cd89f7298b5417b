"""Passkeys: the public halves of keys by which an account can be entered."""

from mongoengine import BinaryField, DateTimeField, EmbeddedDocument, LongField, StringField


class Passkey(EmbeddedDocument):
    """A discoverable credential of WebAuthn, a part of its account as linked identities are."""

    id = StringField(required=True)
    # The credential id in base64url: it belongs to one account.
    key = StringField(required=True)
    public_key = BinaryField(required=True)
    # What the authenticator counted at the last sign-in; those that are synchronised between devices count nothing.
    sign_count = LongField(required=True)
    name = StringField(required=True)
    created_at = DateTimeField(required=True)
    last_used_at = DateTimeField(required=True)
