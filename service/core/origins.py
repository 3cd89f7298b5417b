"""Origins whose pages may call the service from a browser (CORS): which there are, and what their pages may see."""

import re

EXPOSED_HEADERS = (
    *("ETag", "Link", "Location", "Retry-After", "X-Request-ID", "Idempotent-Replayed"),
    "Sync-Problems",
    *("Accept-Ranges", "Content-Disposition", "Content-Range", "X-File-Id"),
    *("Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version", "Tus-Checksum-Algorithm"),
    *("Upload-Expires", "Upload-Length", "Upload-Metadata", "Upload-Offset"),
)
"""Headers of an answer that a page may read."""
PREFLIGHT_SECONDS = 600
"""How long a browser may remember what it was allowed."""

ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[A-Za-z0-9._-]+(:[0-9]+)?")


def whole_origins(setting: str | list[str]) -> list[str]:
    """Return the origins of a setting.

    Raises `ValueError` for a part of one: Flask-CORS takes `https://*.example.com` for a pattern of the beginning of an
    origin, which `https://xexample.com.evil.example` has as well.
    """
    origins = [setting] if isinstance(setting, str) else setting
    if wrong := [origin for origin in origins if origin != "*" and not ORIGIN.fullmatch(origin)]:
        raise ValueError(
            f"CORS_ORIGINS takes `*` or whole origins such as https://app.example.com, not {', '.join(wrong)}"
        )
    return origins
