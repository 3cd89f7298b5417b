"""The words by which a record is found: made of its texts, for each who may find it, with every write of a text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.documents.record import WORDS
from service.model.places import Place
from service.model.record_type import RecordType
from service.model.words import search_tag, word_counts
from service.mongo.raw import Filter, Raw
from service.policy import EVERYONE, given_to, is_withdrawn
from service.query.search import told_words

MOST_WORDS = 2000
"""Most different words of one text, those that come first."""
MOST_LETTERS = 32_000
"""Most letters of these words: twice what words have in most languages, and half of what the longest have."""
MOST_ENTRIES = 4000
"""Most words of one text for all who may find it: of what is given to many, each of them finds the first ones."""

Update = Mapping[str, Mapping[str, Any]]
Touched = Mapping[Place, list[str] | None]
"""The places of searched texts to which an update writes, and the texts it leaves there; None where it is not said."""


def tags_of(entries: Iterable[str]) -> list[str]:
    """Return the tags of entries of an access list; what everyone may read is not searched by everyone."""
    return [search_tag(entry) for entry in entries if entry != given_to(EVERYONE) and not is_withdrawn(entry)]


def words_of(type: RecordType, content: Mapping[str, Any], access: Sequence[str]) -> list[Raw]:
    """Return the words of a record with some content, for those who are in its access list, the owner first."""
    tags = tags_of(access)
    return [in_texts(place.stored, texts_at(place, content), tags) for place in type.search]


def texts_at(place: Place, content: Mapping[str, Any]) -> list[str]:
    """Return the texts that a record has at a place."""
    return [text for _, text in place.stored_values(content) if isinstance(text, str)]


def in_texts(name: str, texts: Iterable[str], tags: Sequence[str]) -> Raw:
    """Return the words of the texts at one place: its name, the words for each tag, and all in one string."""
    counts = word_counts(texts, MOST_WORDS, MOST_LETTERS)
    words = [*counts]
    others = max(len(tags) - 1, 1)
    share = min(len(words), (MOST_ENTRIES - len(words)) // others)
    entries = [tag + word for number, tag in enumerate(tags) for word in (words[:share] if number else words)]
    return {"f": name, "w": entries, "t": told_words(counts)}


def words_field(type: RecordType, content: Mapping[str, Any], access: Sequence[str]) -> Raw:
    """Return what a record of a type has in its field for words: nothing where the type is not searched."""
    return {WORDS: words_of(type, content, access)} if type.search else {}


# --- With an update ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Worded:
    """An update with the words that follow from it, and the condition under which these can be set."""

    update: Update
    guard: Filter


def rewritten(type: RecordType, update: Update, before: Mapping[str, Any], after: Mapping[str, Any]) -> Update:
    """Return the `update` of a record from what it was to what it is `after`, with its words where they change."""
    if not is_changed(type, before, after):
        return update
    return {**update, "$set": {**update.get("$set", {}), **words_field(type, after, after["access"])}}


def is_changed(type: RecordType, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Tell whether a record is found otherwise than before: by other texts, or by others."""
    if before.get("access") != after.get("access"):
        return bool(type.search)
    return any(texts_at(place, before) != texts_at(place, after) for place in type.search)


def touched(type: RecordType, update: Update) -> Touched:
    """Return the places of searched texts to which a MongoDB `update` writes, with the texts that it leaves there."""
    found: dict[Place, list[str] | None] = {}
    for place in type.search:
        names = [name for fields in update.values() for name in fields if is_around(name, place.stored)]
        if names:
            found[place] = text_said(update, names, place)
    return found


def is_around(name: str, stored: str) -> bool:
    """Tell whether a name in an update is that of what is `stored` under another, of what holds it, or is in it."""
    if "." not in name and "." not in stored:
        return name == stored
    inner, outer = f"{without_positions(name)}.", f"{stored}."
    return inner.startswith(outer) or outer.startswith(inner)


def without_positions(name: str) -> str:
    """Return the name of a field as MongoDB has it, without the numbers of entries in it."""
    return ".".join(step for step in name.split(".") if not step.isdecimal()) if "." in name else name


def text_said(update: Update, names: Sequence[str], place: Place) -> list[str] | None:
    """Return the texts that an `update` leaves at a place to which it writes by `names`; None where it is not said."""
    if len(names) != 1:
        return None
    (name,) = names
    if name == place.root.stored:
        content = {name: update["$set"][name]} if name in update.get("$set", {}) else None
        return texts_at(place, content) if content else [] if name in update.get("$unset", {}) else None
    if name == place.stored and place.is_single:
        text = update.get("$set", {}).get(name)
        return [text] if text is not None else [] if name in update.get("$unset", {}) else None
    return None


def worded(type: RecordType, update: Update, texts: Touched, access: Sequence[str]) -> Worded:
    """Return the `update` of a record with this access list, with the words of the `texts` that it changes.

    The words of the others stay, if the record has words where this type has them. Raises `ValueError` for an update
    that does not say the whole of a text.
    """
    guard, words = Filter(), Raw()
    tags = tags_of(access)
    for place in texts:
        at = f"{WORDS}.{type.search.index(place)}"
        found = in_texts(place.stored, whole_text(texts, place), tags)
        guard[f"{at}.f"] = place.stored
        words |= {f"{at}.w": found["w"], f"{at}.t": found["t"]}
    return Worded({**update, "$set": {**update.get("$set", {}), **words}}, guard)


def made_anew(type: RecordType, update: Update, texts: Touched, current: Mapping[str, Any]) -> Update:
    """Return the `update` of the record that was read as `current`, with the words of all its texts.

    `texts` are those that it changes. Raises `ValueError` for an update that does not say the whole of a text.
    """
    tags = tags_of(current["access"])
    words = [
        in_texts(place.stored, whole_text(texts, place) if place in texts else texts_at(place, current), tags)
        for place in type.search
    ]
    return {**update, "$set": {**update.get("$set", {}), WORDS: words}}


def whole_text(texts: Touched, place: Place) -> list[str]:
    """Return the texts that an update leaves at a place; raises `ValueError` where it does not say that."""
    found = texts[place]
    if found is None:
        raise ValueError(f"the update has to say the whole of {place.root.name}, in which {place.name} is searched")
    return found
