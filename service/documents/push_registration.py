"""Push registrations: where notifications reach the device of a session."""

from mongoengine import DateTimeField, EmbeddedDocument, ListField, StringField


class PushRegistration(EmbeddedDocument):
    """A token of a device, a part of its session: it goes when that ends, however it does."""

    platform = StringField(required=True, choices=("apns", "fcm", "webpush"))
    # What the platform knows the device by; of Web Push the subscription as JSON.
    token = StringField(required=True)
    # SHA-256 of platform and token: it belongs to one session.
    key = StringField(required=True)
    topics = ListField(StringField())
    language = StringField()
    registered_at = DateTimeField(required=True)
