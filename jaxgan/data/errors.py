"""What goes wrong with data."""


class DataError(ValueError):
    """Data that is missing, damaged or not what was asked for; the message says what to do."""
