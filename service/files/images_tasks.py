"""What the service and the program that decodes images say to each other."""

from typing import NamedTuple


class Task(NamedTuple):
    """What is wanted of an image: the box, how it is filled, the media type, and the most pixels that are decoded."""

    width: int
    height: int
    cover: bool
    media_type: str
    pixels: int


DONE, REFUSED = b"ok\n", b"no\n"
"""What begins an answer: the bytes of the smaller image follow, or a sentence that says why there is none."""
