"""What every answer carries in its headers: its id, what a browser may do with it, how long it may be kept."""

import re
import secrets

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEADERS_BYTES = 64 * 1024
"""Most bytes of a request line with its headers, and of the buffers of a connection."""
SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-site"),
)
POLICY = "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"
"""The content security policy of an answer that is no page."""
CACHING = "Cache-Control"
PAGE = ((CACHING, "no-store"), *SECURITY_HEADERS)
FRESH = (POLICY, *PAGE)
# A device may keep a record, but has to ask whether it is still current.
KEPT = (POLICY, (CACHING, "private, no-cache"), *SECURITY_HEADERS)


def request_id(named: str) -> str:
    """Return the id of a request: the client's own name for it, or a new one."""
    return named if REQUEST_ID.fullmatch(named) else secrets.token_hex(16)
