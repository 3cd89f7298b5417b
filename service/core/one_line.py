"""What others say, as one line of a log or a reason has it."""


def one_line(text: bytes | str, most: int) -> str:
    """Return at most so many characters of a text, printable ones alone, with single spaces between words."""
    shown = text.decode(errors="replace") if isinstance(text, bytes) else text
    return " ".join("".join(mark if mark.isprintable() else " " for mark in shown).split())[:most]
