"""Links that mails carry: to the pages of this service, by a setting, never by what a request says of its host."""

from collections.abc import Mapping
from typing import Any

VERIFY_PATH = "/account/verify"
RESET_PATH = "/account/reset"
JOIN_PATH = "/account/join"


class Links:
    """Makes the links of one installation."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Read the settings once. Raises `ValueError` where mail can be sent, but nobody says where the pages are."""
        host = config["DOOR_HOST"]
        self.base: str = (config["PUBLIC_URL"] or (f"https://{host}" if host else "")).rstrip("/")
        if config["MAIL_URL"] and not self.base:
            raise ValueError("PUBLIC_URL has to be set where mail is sent: its links lead there")

    def verify(self, token: str) -> str:
        """Return the link that verifies an address."""
        return f"{self.base}{VERIFY_PATH}?token={token}"

    def reset(self, token: str) -> str:
        """Return the link that leads to a new password."""
        return f"{self.base}{RESET_PATH}?token={token}"

    def join(self, token: str) -> str:
        """Return the link that leads into the app with an invitation."""
        return f"{self.base}{JOIN_PATH}?token={token}"
