"""A program of the name modprobe in the place of the system's."""

from __future__ import annotations

from collections.abc import Callable

# Called with the content of the program and its mode (0o755).
FakeModprobe = Callable[..., None]
