"""How many examples a property is tried on: few and always the same in the tests, many and new ones in `make fuzz`."""

import os
from typing import Any

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))


def examples(count: int) -> Any:
    """The settings of a property that is tried on so many examples, or as many times that as are asked for."""
    return settings(
        max_examples=count * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
