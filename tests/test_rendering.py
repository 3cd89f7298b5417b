"""Letters from templates: each in each language, with nothing in it that somebody else has put there."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from service.outbox.rendering import COLUMNS, SHIPPED, TEMPLATES, Renderer, masked, without_links

pytestmark = pytest.mark.once

RENDERER = Renderer("Yard & Co")
LINK = "https://app.example.com/account/verify?token=abc&to=x"
VALUES: dict[str, Any] = {
    "code": "K7QM-2XWD",
    "link": LINK,
    "minutes": 15,
    "days": 7,
    "device": "Mina's phone",
    "when": datetime(2026, 11, 7, 9, 5),
    "passkey": "Mina's laptop",
    "new_address": "minjun@example.org",
    "inviter": "Mina",
    "group": "Choir",
    "webhook": "6b09e1de179f743be67ef3b4",
    "host": "hooks.example.com",
    "reason": "failing",
    "provider": "google",
    "address": "mina@example.org",
}
LANGUAGES = ["en", "ko"]
HANGUL = re.compile("[가-힣]")


def values_of(name: str, **others: Any) -> dict[str, Any]:
    return {value: others.get(value, VALUES[value]) for value in TEMPLATES[name].values}


def rendered(name: str, language: str = "en", **others: Any) -> Any:
    return RENDERER.render(name, language, values_of(name, **others))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_letter_is_there_in_every_language(name: str, language: str) -> None:
    letter = rendered(name, language)
    assert "Yard & Co" in letter.subject
    assert "Yard & Co" in letter.text
    assert "Yard &amp; Co" in letter.html
    assert f'<html lang="{language}">' in letter.html
    for part in (letter.subject, letter.text, letter.html):
        assert bool(HANGUL.search(part)) == (language == "ko")
        assert not re.search(r"\{[{%]|\bNone\b|datetime", part)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", [name for name, needs in TEMPLATES.items() if "code" in needs.values])
def test_the_code_and_the_link_are_in_both_forms_and_never_in_the_subject(name: str, language: str) -> None:
    letter = rendered(name, language)
    assert VALUES["code"] in letter.text
    assert VALUES["code"] in letter.html
    assert VALUES["code"] not in letter.subject
    if "link" in TEMPLATES[name].values:
        assert f"\n{LINK}\n" in letter.text
        assert f'href="{LINK.replace("&", "&amp;")}"' in letter.html


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_letter_is_short_and_brings_nothing_from_elsewhere(name: str, language: str) -> None:
    letter = rendered(name, language)
    assert len(letter.subject) < 60
    assert len(letter.text) < 900
    assert all(len(line) <= COLUMNS or line == LINK for line in letter.text.splitlines())
    assert not re.search(r"<(img|script|link|iframe|style)|url\(|@import", letter.html)
    links = re.findall(r'(?:href|src)="([^"]*)"', letter.html)
    assert links == ([LINK.replace("&", "&amp;")] if "link" in TEMPLATES[name].values else [])


def test_no_template_is_left_over() -> None:
    for language in LANGUAGES:
        assert {path.stem for path in (SHIPPED / language).iterdir()} == {*TEMPLATES, "footer"}


@pytest.mark.parametrize(
    ("wanted", "spoken"),
    [("ko", "ko"), ("ko-KR", "ko"), ("KO_kr", "ko"), ("en-GB", "en"), ("fr", "en"), ("", "en"), ("../ko", "en")],
)
def test_the_nearest_language_is_taken(wanted: str, spoken: str) -> None:
    assert RENDERER.language(wanted) == spoken


def test_a_time_is_written_as_people_do() -> None:
    assert "7 November 2026, 09:05 (UTC)" in " ".join(rendered("password_changed").text.split())
    assert "2026년 11월 7일 09:05 (UTC)" in " ".join(rendered("password_changed", "ko").text.split())


def test_a_device_without_a_name_has_none() -> None:
    assert "A new device signed in" in rendered("new_device", device="").text


def test_an_address_that_was_given_up_leaves_none() -> None:
    assert "has no address" in " ".join(rendered("address_changed", new_address="").text.split())
    assert "지워졌습니다" in rendered("address_changed", "ko", new_address="").text


@pytest.mark.parametrize("name", ["identity_linked", "identity_removed"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_provider_is_named_with_the_address_there_if_it_has_told_one(language: str, name: str) -> None:
    assert "google (m•••@example.org)" in " ".join(rendered(name, language).text.split())
    without = rendered(name, language, address="").text
    assert "google" in without
    assert "(m" not in without
    assert "()" not in without


@pytest.mark.parametrize("language", LANGUAGES)
def test_who_confirms_an_address_is_told_for_which_account(language: str) -> None:
    given = values_of("verify_address")
    unnamed, named = (
        RENDERER.render("verify_address", language, {**given, **more}) for more in ({}, {"username": "eve"})
    )
    assert "eve" not in unnamed.text
    assert "eve" in named.text


# What others put in

NAMES = [
    "Eve\r\nBcc: all@example.com\r\n\r\nA letter of mine",
    "<script>alert(1)</script><img src=https://evil.example/pixel>",
    '"><a href="https://evil.example">Win</a>',
    "{{ 7 * 7 }}{% include 'en/footer.jinja' %}",
    "Win at https://evil.example/now or www.evil.example or eve@evil.example",
    "\u202egnp.exe\u2066\u200b\x00\x1b[31m\u2028red",
    "x" * 10_000,
]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("text", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize(
    ("name", "value"), [("new_device", "device"), ("invitation", "inviter"), ("invitation", "group")]
)
def test_what_somebody_calls_something_is_a_name_and_nothing_else(
    name: str, value: str, text: str, language: str
) -> None:
    usual, letter = rendered(name, language), rendered(name, language, **{value: text})
    assert letter.subject == usual.subject
    assert "49" not in letter.text
    assert len(letter.text) < len(usual.text) + 3 * 60
    assert len(letter.text.split("\n\n")) == len(usual.text.split("\n\n"))
    for part in (letter.text, letter.html):
        assert not re.search(r"evil\.example|www\.|://evil|eve@|[\x00\x1b\u202e\u2066\u200b\u2028\r]", part)
    assert re.findall(r"<(\w+)", letter.html) == re.findall(r"<(\w+)", usual.html)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("Mina", "Mina"), ("J. R. Kim", "J. R. Kim"), ("김 미나", "김 미나"), ("a.b:c/d@e", "a b c d e"), ("\n", "")],
)
def test_a_name_stays_as_it_is_where_it_can(text: str, shown: str) -> None:
    assert without_links(text) == shown


def test_the_new_address_is_told_to_its_owner_alone() -> None:
    assert masked("minjun@example.org") == "m•••@example.org"
    assert "minjun" not in rendered("address_changed").text


# Templates of the installation


def template(folder: Path, name: str, text: str) -> None:
    path = folder / f"{name}.jinja"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


OWN = "{% extends layout %}{% block subject %}Hi{% endblock %}{% block content %}Own {{ code }}{% endblock %}"


def test_a_template_of_the_installation_comes_before_that_which_ships(tmp_path: Path) -> None:
    template(tmp_path, "en/sign_in_code", OWN)
    letter = Renderer("Yard", str(tmp_path)).render("sign_in_code", "en", values_of("sign_in_code"))
    assert (letter.subject, letter.text.splitlines()[0]) == ("Hi", "Own K7QM-2XWD")


def test_a_language_of_the_installation_falls_back_to_english_letter_by_letter(tmp_path: Path) -> None:
    template(tmp_path, "de/sign_in_code", OWN.replace("Hi", "Hallo"))
    renderer = Renderer("Yard", str(tmp_path))
    assert renderer.render("sign_in_code", "de-AT", values_of("sign_in_code")).subject == "Hallo"
    assert renderer.render("no_account", "de", {}).subject == "There is no account with this address at Yard"


def test_a_template_that_is_none_stops_the_start(tmp_path: Path) -> None:
    template(tmp_path, "en/sign_in_code", "{% if %}")
    with pytest.raises(ValueError, match=r"MAIL_TEMPLATES: en/sign_in_code\.jinja"):
        Renderer("Yard", str(tmp_path))
    with pytest.raises(ValueError, match="no folder"):
        Renderer("Yard", str(tmp_path / "nope"))


def test_a_template_that_asks_for_what_it_does_not_get_is_an_error(tmp_path: Path) -> None:
    template(tmp_path, "en/sign_in_code", OWN.replace("code", "password"))
    with pytest.raises(UndefinedError):
        Renderer("Yard", str(tmp_path)).render("sign_in_code", "en", values_of("sign_in_code"))
