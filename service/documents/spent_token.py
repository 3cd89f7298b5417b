"""Spent tokens: what came from providers, and challenges that passkeys have signed; each was good once."""

from datetime import datetime

from mongoengine import DateTimeField, Document, StringField
from pymongo.errors import DuplicateKeyError


class SpentToken(Document):
    """An ID token, the `state` of a sign-in that came back, or a challenge: used, and only a hash, until it expires."""

    id = StringField(
        primary_key=True, help_text="SHA-256 of the challenge, of the state, or of what is signed of the token"
    )
    expires_at = DateTimeField(required=True)

    meta = {
        "collection": "spent_tokens",
        "auto_create_index": False,
        "indexes": [{"fields": ["expires_at"], "expireAfterSeconds": 0}],
    }

    @classmethod
    def spend(cls, id: str, until: datetime) -> bool:
        """Note that something was used, by the transaction under way; False where it was before."""
        try:
            cls._get_collection().insert_one({"_id": id, "expires_at": until})
        except DuplicateKeyError:
            return False
        return True
