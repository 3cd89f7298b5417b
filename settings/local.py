"""Settings for a developer's own machine, the default."""

from settings.base import Base


class Local(Base):
    """Readable logs and answers, any origin; data and secret are kept in `var/`."""

    ENVIRONMENT = "local"
    CORS_ORIGINS = "*"
    LOG_JSON = False
    JSON_PRETTY = True
