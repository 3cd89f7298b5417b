"""Settings for the real thing: what must be named is named in the environment."""

from settings.base import Base


class Production(Base):
    """The defaults of `Base`; where MongoDB is and what signs the tokens has to come from the environment."""

    ENVIRONMENT = "production"
    REQUIRED = ["MONGODB_URI", "JWT_SECRET_KEY"]
    MINIMAL_KEY_BYTES = 32
    DRAIN_DELAY = 5.0
