"""The C libraries of pyudev and python-ptrace, found without running a program.

ctypes.util.find_library() runs ldconfig and, where that knows nothing, whatever PATH has as gcc and ld. As root nobody
wants that. Both libraries look for theirs while they are imported.
"""

from __future__ import annotations

import ctypes.util

# The main program's own symbols (None) have the C library's. The others by the names that they were linked with.
_SONAMES = {"udev": "libudev.so.1"}


class BySoname:
    """While it is entered, find_library() looks nowhere and gives the known name, or None."""

    def __enter__(self) -> None:
        self._find = ctypes.util.find_library
        ctypes.util.find_library = lambda name: _SONAMES.get(name)

    def __exit__(self, *_: object) -> None:
        ctypes.util.find_library = self._find
