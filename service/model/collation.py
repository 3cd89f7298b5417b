"""Collations: the alphabet in which texts are sorted and compared; MongoDB's own, which are those of ICU."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mongoengine.base import BaseField

from service.core.spelling import nearest
from service.model.fields import InvalidDocument, meaning, named

KNOWN = """
af am ar as az be bg bn bo bs bs_Cyrl ca chr cs cy da de de_AT dsb dz ee el en en_US en_US_POSIX eo es
et fa fa_AF fi fil fo fr fr_CA ga gl gu ha haw he hi hr hsb hu hy id ig is it ja ka kk kl km kn ko kok
ky lb lkt ln lo lt lv mk ml mn mr ms mt my nb ne nl nn om or pa pl ps pt ro ru se si sk sl smn sq sr
sr_Latn sv sw ta te th to tr ug uk ur vi wae yi yo zh zh_Hant zu
"""
LOCALES = frozenset(KNOWN.split())
"""The languages whose alphabets MongoDB knows (MongoDB manual, Collation Locales and Default Parameters)."""
VARIANTS: Mapping[str, frozenset[str]] = {
    "phonebook": frozenset({"de", "de_AT"}),
    "traditional": frozenset({"bn", "es", "fi", "kn", "vi"}),
    "standard": frozenset({"sv", "zh", "zh_Hant"}),
    "unihan": frozenset({"ja", "ko", "zh", "zh_Hant"}),
    "pinyin": frozenset({"zh_Hant"}),
    "stroke": frozenset({"zh"}),
    "zhuyin": frozenset({"zh", "zh_Hant"}),
    "big5han": frozenset({"zh", "zh_Hant"}),
    "gb2312han": frozenset({"zh", "zh_Hant"}),
    "dictionary": frozenset({"si"}),
    "phonetic": frozenset({"ln"}),
    "compat": frozenset({"ar"}),
}
"""The other orders that some of them have, named as in `de@collation=phonebook`."""
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "numericOrdering": (True, False),
    "caseFirst": ("upper", "lower", "off"),
    "backwards": (True, False),
}
"""What else of MongoDB's collation may be said, with its values."""
IDENTICAL = 5
"""The strength at which only what is the same text is equal (ICU, identical level).

A query has one collation for all its texts. At a lower strength the access list, ids and every other text of `where`
would be compared without case or accents too, so what is given to `role:admin` would be read by `role:Admin`; and two
ids that are equal have no order from which a page could go on.
"""


@dataclass(frozen=True, slots=True)
class Collation:
    """An alphabet in which two texts are equal only where they are the same; `options` are others than the default."""

    locale: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def bson(self) -> dict[str, Any]:
        """Return it as MongoDB's commands take it."""
        return {"locale": self.locale, "strength": IDENTICAL, **dict(self.options)}

    @property
    def name(self) -> str:
        """Return what tells it from all others, as a part of the name of an index."""
        return "_".join([self.locale, *(f"{name}_{value}" for name, value in self.options)])


def collation_of(declared: BaseField) -> Collation | None:
    """Return the collation that is declared of a field, None where there is none. Raises `InvalidDocument`."""
    said = getattr(declared, "collation", None)
    if said is None:
        return None
    if meaning(declared).lowest != "":
        raise InvalidDocument(f"{named(declared)} has a collation, but is no text")
    options = {"locale": said} if isinstance(said, str) else said
    if not isinstance(options, Mapping) or not isinstance(options.get("locale"), str):
        raise InvalidDocument(
            f'{named(declared)} has the collation {said!r}; write the code of a language, such as "sv", '
            'or a mapping with a "locale"'
        )
    if obstacle := obstacle_to_collation(options):
        raise InvalidDocument(f"{named(declared)} has a collation {obstacle}")
    chosen = sorted(
        (name, value) for name, value in options.items() if name != "locale" and value not in (False, "off")
    )
    return Collation(options["locale"], tuple(chosen))


def obstacle_to_collation(options: Mapping[str, Any]) -> str:
    """Return what is wrong with the options of a collation; empty where nothing is."""
    language, _, variant = options["locale"].partition("@collation=")
    if language not in LOCALES:
        hint = nearest(re.split("[-_]", language)[0].lower(), LOCALES)
        return f"with the locale {language!r}, which MongoDB does not know{hint}"
    if variant and language not in VARIANTS.get(variant, ()):
        able = ", ".join(sorted(name for name, languages in VARIANTS.items() if language in languages))
        return f"with the order {variant!r}, which {language} has not; it has {able or 'one only'}"
    for name, value in options.items():
        if name == "strength":
            return "with a strength; it is always 5, for ids and rights are compared by it too"
        if name != "locale" and (name not in CHOICES or value not in CHOICES[name]):
            return f"with {name}={value!r}; beside the locale there are " + ", ".join(CHOICES)
    return ""
