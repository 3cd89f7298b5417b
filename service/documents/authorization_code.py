"""Authorization codes: by which an app gets tokens for what a provider has said of its user in a browser."""

from mongoengine import BooleanField, DateTimeField, DictField, Document, StringField


class AuthorizationCode(Document):
    """What a provider has asserted, until the app that began the sign-in comes for it: for a minute, and once."""

    id = StringField(primary_key=True, help_text="SHA-256 of the code, which itself is nowhere")
    # SHA-256 of the app's verifier, as base64url (RFC 7636, section 4.2).
    challenge = StringField(required=True)
    # The members of `id_tokens.Asserted`.
    provider = StringField(required=True)
    issuer = StringField(required=True)
    subject = StringField(required=True)
    email = StringField()
    email_verified = BooleanField(required=True)
    token = StringField(required=True)
    until = DateTimeField(required=True)
    client = StringField(required=True)
    given = DictField()
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "authorization_codes",
        "auto_create_index": False,
        "indexes": [{"fields": ["expires_at"], "expireAfterSeconds": 0}],
    }
