"""What the service tells of each request: its id, one log line, and the headers of every answer."""

import time
from functools import partial

from flask import Flask

from service.context import current_globals
from service.core import metrics
from service.core.headers import CACHING, FRESH, KEPT, PAGE, POLICY, SECURITY_HEADERS, request_id
from service.core.log import Lines, configure_log
from service.http.web import Answer, current_request


def init_app(app: Flask) -> None:
    """Give every request of `app` an id, a log line and its place in the metrics, and every answer its headers."""
    lines = configure_log(app.config)
    app.before_request(begin_request)
    app.after_request(partial(finish_answer, lines))
    app.teardown_request(end_request)


def begin_request() -> None:
    """Start the clock and name the request: the client's own name for it, or a new one."""
    sent, g = current_request(), current_globals()
    environ, sent.is_counted = sent.environ, True
    g.started = time.perf_counter()
    g.request_id = request_id(environ.get("HTTP_X_REQUEST_ID", ""))
    g.address = environ.get("REMOTE_ADDR") or "unknown"
    metrics.IN_FLIGHT.inc()


def end_request(_error: BaseException | None) -> None:
    """Count the request out, whatever became of it; one that a batch only prepares was never counted in."""
    if current_request().is_counted:
        metrics.IN_FLIGHT.dec()


def finish_answer(lines: Lines, response: Answer) -> Answer:
    """Add the headers of every answer, count it, and write its one log line."""
    sent, g, status = current_request(), current_globals(), response.status_code
    response.standing = (("X-Request-ID", g.request_id), *standing(response.names))
    # The pattern that the path matched: never what a client made up.
    rule = sent.url_rule.rule if sent.url_rule is not None else "unmatched"
    seconds = time.perf_counter() - g.started
    metrics.observe(sent.method, rule, status, seconds)
    account = g.identity.account if "identity" in g else None
    lines.tell_request(sent.method, rule, status, seconds, g.request_id, account)
    return response


def standing(names: set[str]) -> tuple[tuple[str, str], ...]:
    """Return the headers of every answer, for one that has set those of `names` itself."""
    if CACHING in names:
        return SECURITY_HEADERS if POLICY[0] in names else (POLICY, *SECURITY_HEADERS)
    if POLICY[0] in names:
        return PAGE
    return KEPT if "ETag" in names else FRESH
