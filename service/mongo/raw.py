"""Documents and filters as MongoDB has them."""

from typing import Any

Raw = dict[str, Any]
"""A document in BSON form."""
Filter = dict[str, Any]
"""Which documents of a collection are meant."""
