"""One name is one text, however a keyboard composes it: NFC on the way in and in `where`."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from service.documents import Note
from tests.client import Person
from tests.properties import examples
from tests.types import schema_of

NAMES = st.text(st.sampled_from("aeo\u0301\u0308\u1112\u1161\u11ab\uac00\u212b"), min_size=1, max_size=20)


@given(title=NAMES)
@examples(100)
def test_text_is_kept_composed_on_every_way_in(title: str) -> None:
    assert schema_of(Note).load({"title": title})["title"] == unicodedata.normalize("NFC", title)


def test_a_name_is_found_however_it_is_composed(ada: Person) -> None:
    note = ada.make_note(title="Zoe\u0308", tags=["u\u0308"])
    assert (note["title"], note["tags"]) == ("Zo\u00eb", ["\u00fc"])
    for title in ("Zoe\u0308", "Zo\u00eb"):
        assert len(ada.find(where={"title": title}).json["items"]) == 1
    changed = ada.patch(f"/v1/notes/{note['id']}", {"title": "e\u0301", "$add_to_set": {"tags": "u\u0308"}})
    assert (changed.json["title"], changed.json["tags"]) == ("\u00e9", ["\u00fc"])


def test_lengths_count_what_is_kept(ada: Person) -> None:
    assert len(ada.make_note(title="e\u0301" * 200)["title"]) == 200
