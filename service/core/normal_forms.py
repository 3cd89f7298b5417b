"""Unicode's normal forms (UAX #15) of what clients send, in time that grows with its length.

CPython brings the marks behind a letter into their order by insertion (`Modules/unicodedata.c`): a hundred thousand of
them take it a minute, in which no other thread runs. So long runs are in order before it sees them.
"""

import re
import unicodedata
from functools import cache
from typing import Literal

Form = Literal["NFC", "NFKD"]

LONGEST_RUN = 30
"""Most marks behind one letter in any text that somebody reads (UAX #15, section 13, Stream-Safe Text Format)."""


def normalized(form: Form, text: str) -> str:
    """Return `text` in a normal form."""
    return text if text.isascii() else unicodedata.normalize(form, in_order(form, text))


def in_order(form: Form, text: str) -> str:
    """Return a text of the same normal form, with the marks of long runs taken apart and in their order."""
    mark, long_run = patterns(form)
    # A long run has a mark at one of these places.
    if len(text) <= LONGEST_RUN or mark.search(text[:: LONGEST_RUN + 1]) is None:
        return text
    return long_run.sub(lambda run: sorted_marks(form, run[0]), text)


def sorted_marks(form: Form, run: str) -> str:
    """Return marks in their canonical order: by their class, and as they came within one."""
    # They are few different ones.
    parts = {mark: unicodedata.normalize(TAKEN_APART[form], mark) for mark in set(run)}
    marks = "".join(map(parts.__getitem__, run))
    classes = {mark: unicodedata.combining(mark) for mark in set(marks)}
    return "".join(sorted(marks, key=classes.__getitem__))


TAKEN_APART: dict[Form, Literal["NFD", "NFKD"]] = {"NFC": "NFD", "NFKD": "NFKD"}
"""The form whose marks are brought into order on the way to another."""


@cache
def patterns(form: Form) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what finds a mark, and what finds a long run of them: 40 ms, once, and only for what is not ASCII."""
    found = (chr(code) for code in range(FIRST_MARK, END_OF_MARKS))
    marks = "".join(character for character in found if begins_with_mark(form, character))
    return re.compile(f"[{marks}]"), re.compile(f"[{marks}]{{{LONGEST_RUN + 1},}}")


FIRST_MARK, END_OF_MARKS = 0x300, 0x20000
"""Between which code points all marks are: in the first two planes."""


def begins_with_mark(form: Form, character: str) -> bool:
    """Tell whether a character is a mark that is brought into order, or is made of such ones."""
    if unicodedata.combining(character):
        return True
    if not unicodedata.decomposition(character):
        return False
    return bool(unicodedata.combining(unicodedata.normalize(TAKEN_APART[form], character)[0]))
