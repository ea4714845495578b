"""What goes wrong with data."""

from jaxgan.errors import UsageError


class DataError(UsageError):
    """Data that is missing, damaged or not what was asked for; the message says what to do."""
