"""Letters from templates: what each one needs, and its subject, text and HTML in a language."""

import re
import textwrap
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined, Template, TemplateError, pass_context
from jinja2.runtime import Context

SHIPPED = Path(__file__).parent / "templates"
USUAL = "en"
"""The language of those whose own is not there."""
COLUMNS = 72
LONGEST_NAME = 60
CODE, NOTICE, INVITATION = "code", "notice", "invitation"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a template is handed, and with which others its letters are counted.

    A storm of those that anybody can cause must not hold back a word that the password was changed.
    """

    counted: str
    values: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    """What it may be handed; empty where it is not."""


TEMPLATES: Mapping[str, Needs] = {
    "verify_address": Needs(CODE, frozenset({"code", "link", "minutes"}), frozenset({"username"})),
    "reset_password": Needs(CODE, frozenset({"code", "link", "minutes"})),
    "sign_in_code": Needs(CODE, frozenset({"code", "minutes"})),
    "account_exists": Needs(CODE),
    "no_account": Needs(CODE),
    "new_device": Needs(NOTICE, frozenset({"device", "when"})),
    "password_changed": Needs(NOTICE, frozenset({"when"})),
    "address_changed": Needs(NOTICE, frozenset({"new_address", "when"})),
    "identity_linked": Needs(NOTICE, frozenset({"provider", "address", "when"})),
    "identity_removed": Needs(NOTICE, frozenset({"provider", "address", "when"})),
    "second_factor_on": Needs(NOTICE, frozenset({"when"})),
    "second_factor_off": Needs(NOTICE, frozenset({"when"})),
    "passkey_added": Needs(NOTICE, frozenset({"passkey", "when"})),
    "passkey_removed": Needs(NOTICE, frozenset({"passkey", "when"})),
    "invitation": Needs(INVITATION, frozenset({"inviter", "group", "code", "link", "days"})),
    "webhook_off": Needs(NOTICE, frozenset({"host", "webhook", "reason", "when"})),
}
"""Every template."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A letter in its two forms."""

    subject: str
    text: str
    html: str


class Renderer:
    """Renders the templates that ship, or those of the same name in a folder of the installation."""

    def __init__(self, app: str, folder: str | None = None) -> None:
        """Take the name of the app and that folder. Raises `ValueError` where a template in it is no good."""
        self.app = without_links(app)
        folders = [Path(folder), SHIPPED] if folder else [SHIPPED]
        self.languages = {path.name for place in folders if place.is_dir() for path in place.iterdir() if path.is_dir()}
        self.text, self.html = (environment_of(folders, form) for form in ("text", "html"))
        if folder:
            self.check(folder)

    def check(self, folder: str) -> None:
        """Raise `ValueError` where MAIL_TEMPLATES is no folder, or holds what cannot be compiled."""
        if not Path(folder).is_dir():
            raise ValueError(f"MAIL_TEMPLATES is {folder!r}, which is no folder")
        for environment in (self.text, self.html):
            for name in environment.list_templates():
                try:
                    environment.get_template(name)
                except TemplateError as error:
                    raise ValueError(f"MAIL_TEMPLATES: {name}: {error}") from error

    def language(self, wanted: str) -> str:
        """Return the language that we have and that is nearest to the wanted one (BCP 47)."""
        known = {name.lower(): name for name in self.languages}
        whole = wanted.lower().replace("_", "-")
        return known.get(whole) or known.get(whole.partition("-")[0]) or USUAL

    def render(self, name: str, language: str, values: Mapping[str, Any]) -> Rendered:
        """Return a letter. Raises `TemplateError` for a template that does not fit its values."""
        spoken = self.language(language)
        given = {**dict.fromkeys(TEMPLATES[name].optional, ""), **values, "app": self.app, "language": spoken}
        subject = " ".join(self.block(self.chosen(self.text, name, spoken), given).split())
        text, html = (
            self.chosen(environment, name, spoken).render(**given, subject=subject)
            for environment in (self.text, self.html)
        )
        return Rendered(subject, re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", html)

    def chosen(self, environment: Environment, name: str, language: str) -> Template:
        """Return a template in a language, or in the usual one where that lacks it."""
        return environment.select_template([f"{language}/{name}.jinja", f"{USUAL}/{name}.jinja"])

    def block(self, template: Template, values: Mapping[str, Any]) -> str:
        """Return the subject alone."""
        return "".join(template.blocks["subject"](template.new_context(dict(values))))


def environment_of(folders: list[Path], form: str) -> Environment:
    """Return what loads templates for one form; only HTML is escaped, and a value that is missing is an error."""
    made = Environment(
        loader=ChoiceLoader([FileSystemLoader(folder) for folder in folders]),
        autoescape=form == "html",  # noqa: S701  plain text has nothing to escape
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {"layout": f"layout.{form}", "parts": f"parts.{form}", "usual": USUAL}
    made.filters |= {"flow": flow, "plain": without_links, "masked": masked, "moment": moment}
    return made


def flow(text: str) -> str:
    """Return a paragraph of plain text in lines of a good length; nothing is broken that has no space in it."""
    return textwrap.fill(" ".join(text.split()), COLUMNS, break_long_words=False, break_on_hyphens=False)


LINKED = re.compile(r"(?<=\S)[.:/@](?=\S)")
"""What makes mail programs take a word for a link."""


def without_links(text: str) -> str:
    """Return what somebody calls something so that it can stand in a letter of ours: short, in a line, no link.

    Control and format characters go, among them those that turn the direction of writing.
    """
    shown = "".join(" " if unicodedata.category(mark)[0] in "CZ" else mark for mark in text)
    return " ".join(LINKED.sub(" ", " ".join(shown.split())).split())[:LONGEST_NAME]


def masked(address: str) -> str:
    """Return an address so that its owner knows it and nobody else can write to it."""
    local, _, domain = address.rpartition("@")
    return f"{without_links(local)[:1]}•••@{' '.join(domain.split())}"


MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@pass_context
def moment(context: Context, time: datetime) -> str:
    """Return a time in UTC as people write it in the language of the letter."""
    if context["language"] == "ko":
        return f"{time.year}년 {time.month}월 {time.day}일 {time:%H:%M} (UTC)"
    return f"{time.day} {MONTHS[time.month - 1]} {time.year}, {time:%H:%M} (UTC)"
