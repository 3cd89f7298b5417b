"""Normal forms of Unicode are those of the standard, in a time that grows with the text."""

import json
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core import normal_forms
from service.core.normal_forms import Form, normalized
from tests.client import PASSWORD, Person, Phone, pointers
from tests.properties import examples

MARKS = (
    "\u0301\u0327\u0334\u0323\u0344\u0308\u0f73\u0f75\u0f81\u0f71\uff9e\uff9f\u3099\u05b0\u064b\u0e38\u1dc4\U0001d165"
)
LETTERS = "ae\u00e9\u1e69\uac00\u304b\uff76\u0f40\u0915 "
FORMS: tuple[Form, ...] = ("NFC", "NFKD")


def test_every_mark_that_unicode_has_is_found() -> None:
    beyond = map(chr, range(normal_forms.END_OF_MARKS, 0x110000))
    assert not [character for character in beyond if unicodedata.combining(character)]
    for form in FORMS:
        mark, _ = normal_forms.patterns(form)
        for code in range(normal_forms.END_OF_MARKS):
            if unicodedata.combining(chr(code)):
                assert mark.fullmatch(chr(code))


@given(st.lists(st.text(st.sampled_from(LETTERS), max_size=2) | st.text(st.sampled_from(MARKS), max_size=120)))
@examples(300)
def test_the_form_is_that_of_the_standard(parts: list[str]) -> None:
    text = "".join(parts)
    for form in FORMS:
        assert normalized(form, text) == unicodedata.normalize(form, text)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "unit",
    [
        "\u0301\u0327",
        "\u0327\u0301\u0334",
        "\u0f73",
        "\u0344\u0323",
        "\uff9e\u0301\u0334",
        MARKS,
        "a" + MARKS,
        "\u00e9\u0327",
    ],
)
def test_a_megabyte_of_marks_costs_little(form: Form, unit: str) -> None:
    text = "e" + unit * (500_000 // len(unit))
    begun = time.thread_time()
    normalized(form, text)
    assert time.thread_time() - begun < 5


ZALGO = "a" + "\u0327\u0301\u0334" * 100_000


def test_marks_cost_little_in_any_place_that_takes_text(ada: Person, phone: Phone) -> None:
    begun = time.thread_time()
    assert pointers(ada.post("/v1/notes", {"title": ZALGO})) == {"/title": "too_long"}
    assert pointers(ada.post("/v1/notes", {"title": "a", "tags": [ZALGO]})) == {"/tags/0": "too_long"}
    assert pointers(ada.post("/v1/notes", {"title": "a", "$push": ZALGO})).keys() == {"/$push"}
    account = {"username": "zalgo", "password": PASSWORD, "display_name": ZALGO}
    assert pointers(phone.post("/v1/accounts", account)) == {"/display_name": "too_long"}
    assert phone.post("/v1/accounts", {**account, "display_name": "z", "password": ZALGO}).status_code == 422
    assert phone.post("/auth", {"username": "ada", "password": ZALGO}).status_code in (401, 422)
    note = ada.make_note(body=ZALGO[:100_000])
    assert unicodedata.is_normalized("NFC", note["body"][:20])
    where = json.dumps({"title": ZALGO[:4000]}, ensure_ascii=False)
    assert ada.get("/v1/notes", query_string={"where": where}).json["items"] == []
    assert time.thread_time() - begun < 10
