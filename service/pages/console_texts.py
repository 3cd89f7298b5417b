"""What the console says, in each language; what problems say is told as the API tells it."""

from collections.abc import Mapping

from service.pages.console_texts_en import ENGLISH
from service.pages.console_texts_ko import KOREAN

CONSOLE_TEXTS: Mapping[str, Mapping[str, str]] = {"en": ENGLISH, "ko": KOREAN}
"""By language and name."""
NAVIGATION: list[tuple[str, str]] = [
    ("/admin", "overview"),
    ("/admin/accounts", "accounts"),
    ("/admin/outbox", "outbox"),
    ("/admin/webhooks", "webhooks"),
    ("/admin/indexes", "indexes"),
    ("/admin/log", "log"),
    ("/admin/settings", "settings"),
]
"""Where the console leads from any of its pages: the path, and the name of the text."""
