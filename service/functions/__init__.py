"""The app's own code: each module in here may define functions that clients call, and jobs."""

import importlib
import pkgutil
from types import ModuleType


def modules() -> list[ModuleType]:
    """Return the modules of this package, imported."""
    return [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
