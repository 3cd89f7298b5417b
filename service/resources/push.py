"""Push notifications: where they reach the device at hand, and how an admin sends some."""

from typing import Annotated, Any, Literal

from pydantic import Field

from service.context import current_globals, g
from service.core.errors import Cause, Forbidden, NotFound, ValidationFailed
from service.http.arguments import Arguments, take
from service.http.languages import sent_language
from service.http.openapi import operation
from service.identity.accounts import locale_of
from service.identity.schemas import dump_push, push_registration
from service.mongo.raw import Raw
from service.policy import ADMIN
from service.push import registrations
from service.push.notification import DAY, MOST_COLLAPSE, MOST_SECONDS, TOPIC, Notification
from service.push.sending import broadcast
from service.resources.resource import Resource
from service.security import current_identity, security

PushTopic = Annotated[str, Field(pattern=f"^{TOPIC.pattern}$")]
MOST_TOPICS, MOST_ACCOUNTS = 20, 1000
DEVICE_TOKEN = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"  # noqa: S105  Apple's example


class NewPushRegistration(Arguments):
    """The body of a registration."""

    platform: Literal["apns", "fcm", "webpush"]
    token: str = Field(
        min_length=1,
        max_length=4096,
        description=(
            "APNs: the device token in hexadecimal. FCM: the registration token. Web Push: the subscription as JSON, "
            "as `JSON.stringify(subscription)` makes it."
        ),
    )
    topics: list[PushTopic] = Field(default=[], max_length=MOST_TOPICS)


class AdminPush(Arguments):
    """The body of a notification that an admin sends."""

    accounts: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default=[],
        max_length=MOST_ACCOUNTS,
        description="Ids of those whose devices get it; without any, all do that follow one of the topics.",
        examples=[["66f1c0de5a1b2c3d4e5f6071"]],
    )
    topics: list[PushTopic] = Field(
        default=[], max_length=MOST_TOPICS, description="Only to devices that follow one of these.", examples=[["news"]]
    )
    title: str | None = Field(default=None, min_length=1, max_length=500, examples=["Closed on Monday"])
    body: str | None = Field(default=None, min_length=1, max_length=2000, examples=["We are back on Tuesday at nine."])
    data: dict[str, Any] = Field(default={}, max_length=100, description="For the app.", examples=[{"page": "news"}])
    collapse: str | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_COLLAPSE,
        description="Of those with the same one a device shows the newest.",
        examples=["opening-hours"],
    )
    seconds: int = Field(default=DAY, ge=0, le=MOST_SECONDS, description="How long it is tried.", examples=[DAY])
    urgent: bool = Field(default=True, description="Whether it wakes a device that sleeps.", examples=[True])


def accepted_push(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of the answer to a notification that is on its way."""
    properties = {"id": {"type": "string", "description": "what `flask outbox` knows it by"}}
    return {
        "title": "AcceptedPush",
        "type": "object",
        "properties": properties,
        "required": ["id"],
        "additionalProperties": False,
    }


class OwnPush(Resource):
    """Where notifications reach the device at hand."""

    @operation(
        "Get how this device is reached",
        name="getPushRegistration",
        answer={200: push_registration},
        problems=["not_found"],
    )
    def get(self) -> dict[str, Any]:
        """Return what is registered for this session, without the token."""
        return dump_push(there_is(registrations.registered(current_identity.session)))

    @operation(
        "Have notifications reach this device",
        name="registerPush",
        example={"platform": "apns", "token": DEVICE_TOKEN, "topics": ["news"]},
        body=NewPushRegistration,
        answer={200: push_registration},
        problems=["too_many_requests"],
    )
    def put(self) -> dict[str, Any]:
        """Register a token for this session, in place of the one before; no other session has it any more.

        It goes with the session. Notifications come in the language that `Accept-Language` prefers here.
        """
        sent, who = take(NewPushRegistration), current_globals().identity
        language = sent_language() or locale_of(who.account)
        return dump_push(
            security().push_devices.register(who, sent.platform, sent.token, sent.topics, language, g.address)
        )

    @operation("Have no notification reach this device", name="endPush", answer={204: None})
    def delete(self) -> tuple[None, int]:
        """End what is registered for this session."""
        if not security().push_devices.end(current_globals().identity, g.address):
            raise NotFound("nothing is registered for this session")
        return None, 204


def there_is(push: Raw | None) -> Raw:
    """Return a registration that is there. Raises `NotFound`."""
    if push is None:
        raise NotFound("nothing is registered for this session")
    return push


class AdminPushList(Resource):
    """Where an admin sends notifications."""

    @operation(
        "Send a notification to the devices of many",
        name="sendPush",
        tag="admin",
        body=AdminPush,
        answer={202: accepted_push},
        problems=["forbidden", "too_many_requests"],
    )
    def post(self) -> tuple[dict[str, Any], int]:
        """Have a worker send it to the devices of accounts, or to those of anybody that follow a topic, or both."""
        sent, who = take(AdminPush), current_globals().identity
        if ADMIN not in who.roles:
            raise Forbidden("only who has the role admin may send notifications")
        security().throttle.admin_push(who.account)
        if not sent.accounts and not sent.topics:
            raise ValidationFailed([Cause("required", "accounts, topics, or both", pointer="/accounts")])
        try:
            told = Notification(sent.title, sent.body, sent.data, sent.collapse, sent.seconds, sent.urgent)
        except ValueError as error:
            raise ValidationFailed([Cause("not_valid", str(error), pointer="/title")]) from None
        return {"id": broadcast(sent.accounts, sent.topics, told, who.account)}, 202
