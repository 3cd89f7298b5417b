"""Names of files: as a client sends one, and as a browser is told it (RFC 6266)."""

import re
from urllib.parse import quote

UNNAMED = "file"
UNSAFE = re.compile(r"[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters of control, and those that turn the direction of a text: `gpj.exe` would be read as `exe.jpg`."""
PLAIN = re.compile(r"[^ !#$&+.0-9A-Za-z^_`|~()-]")
"""What does not stand in the name that old browsers read."""
ATTRIBUTE = "!#$&+-.^_`|~"
"""Characters that stand for themselves in the name that all others read (RFC 8187, section 3.2.1)."""


def base_name(sent: str | None) -> str:
    """Return the name of a file that a client has sent, without the folders on its device."""
    last = re.split(r"[/\\]", UNSAFE.sub("", sent or ""))[-1].strip()
    return UNNAMED if last in ("", ".", "..") else last


def disposition(name: str, shown: bool) -> str:
    """Return the `Content-Disposition` of a file of this name."""
    safe = base_name(name)
    plain = PLAIN.sub("_", safe)
    return (
        f"{'inline' if shown else 'attachment'}; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe=ATTRIBUTE)}"
    )
