"""The senders of notifications: one for each platform, that hands over what waits for its devices."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.core.log import log
from service.mongo.raw import Raw
from service.outbox.bulk_dispatch import SendOutcome
from service.outbox.dispatch import CannotSend, Refused, Retries
from service.push import apns, registrations, web_push
from service.push.apns import Apns
from service.push.fcm import Fcm
from service.push.notification import Notification
from service.push.platform import Dead, Platform, Push
from service.push.registrations import Registration
from service.push.web_push import WebPush

PUSH_RETRIES = Retries(first=10.0, longest=3600.0)
"""Until a notification is of no more use; FCM and RFC 8030 ask for more and more time in between."""


class PushSender:
    """Sends the notifications for the devices of one platform."""

    def __init__(self, platform: Platform) -> None:
        self.platform, self.kind = platform, platform.kind
        self.most, self.seconds = platform.most, platform.seconds

    def retries(self, item: Raw) -> Retries:
        """Return how often and how long an item is tried."""
        return PUSH_RETRIES

    def rest(self) -> None:
        """Hear that there is nothing to send at this moment."""
        self.platform.rest()

    def send_many(self, taken: Sequence[Raw], until: float) -> list[SendOutcome]:
        """Send notifications, until a time at most; return what has come of each."""
        devices = registrations.of_sessions([item["content"]["session"] for item in taken], self.kind)
        outcomes: dict[str, SendOutcome] = {}
        pushes = []
        for item in taken:
            try:
                pushes.append(push_of(item, devices.get(item["content"]["session"])))
            except Refused as error:
                outcomes[item["_id"]] = error
        outcomes |= dict(zip([push.id for push in pushes], self.delivered(pushes, until), strict=True))
        return [outcomes[item["_id"]] for item in taken]

    def delivered(self, pushes: Sequence[Push], until: float) -> list[SendOutcome]:
        """Hand notifications to the platform, and let go of the devices that are not there any more."""
        if not pushes:
            return []
        try:
            found = self.platform.deliver(pushes, until)
        except CannotSend as error:
            return [error] * len(pushes)
        except Exception as error:
            # A mistake of ours, that one of them shows: it must not keep the others from being sent.
            if len(pushes) == 1:
                return [error]
            return [outcome for push in pushes for outcome in self.delivered([push], until)]
        for push, outcome in zip(pushes, found, strict=True):
            if isinstance(outcome, Dead):
                registrations.end_dead(push.device, outcome.until)
        return found


def push_of(item: Raw, device: Registration | None) -> Push:
    """Return the notification of an item for the device of its session.

    Raises `Refused` where that is not registered any more, and for what cannot be read: of another version, it may be.
    """
    if device is None or device.account != item["account"]:
        raise Refused("the device is not registered any more")
    try:
        return Push(item["_id"], device, Notification.of(item["message"]), item["until"])
    except Exception as error:
        raise Refused(f"what it says cannot be read: {type(error).__name__}") from error


class Unset:
    """Takes the place of a platform whose credentials the settings do not have: in the log of who develops."""

    most, seconds = 500, 30.0

    def __init__(self, kind: str, environment: str) -> None:
        self.kind, self.is_production = kind, environment == "production"

    def rest(self) -> None:
        """Do nothing."""

    def deliver(self, pushes: Sequence[Push], until: float) -> list[SendOutcome]:
        """Write notifications into the log; in production refuse them."""
        if self.is_production:
            return [Refused(f"the settings have no credentials of {self.kind} (docs/push.md)")] * len(pushes)
        for push in pushes:
            log.info("push", platform=self.kind, session=push.device.session, **push.notification.stored())
        return [None] * len(pushes)


def platforms(config: Mapping[str, Any]) -> list[Platform]:
    """Return how notifications leave by some settings. Raises `ValueError` for those that are not right."""
    environment = config["ENVIRONMENT"]
    return [
        Apns(config) if is_set(config, "APNs", apns.APNS_NEEDED) else Unset("apns", environment),
        Fcm(config) if config["FCM_CREDENTIALS_FILE"] else Unset("fcm", environment),
        WebPush(config) if is_set(config, "Web Push", web_push.VAPID_NEEDED) else Unset("webpush", environment),
    ]


def is_set(config: Mapping[str, Any], what: str, names: Sequence[str]) -> bool:
    """Tell whether settings are there that are needed together. Raises `ValueError` where a part of them is."""
    lacking = [name for name in names if not config[name]]
    if lacking and len(lacking) < len(names):
        lacks = " and ".join(f"SERVICE_{name}" for name in lacking)
        raise ValueError(f"{what} needs {lacks} too (docs/push.md)")
    return not lacking
