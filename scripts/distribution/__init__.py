"""What `scripts/build` is made of."""


class Failed(Exception):
    """It cannot be built; the message says why."""
