"""Settings for the test suite."""

from settings.base import Base


class Test(Base):
    """A fixed secret; otherwise what production runs."""

    ENVIRONMENT = "test"
    TESTING = True
    SECRET_KEY = "a secret that is only good for tests"  # noqa: S105
    RATELIMIT_ENABLED = False
    CORS_ORIGINS = ["https://app.example.com"]
