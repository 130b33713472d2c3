"""Modules that stand in for some of the standard library's while a module that imports them is imported.

pyudev and python-ptrace call ctypes.util.find_library() then. It runs ldconfig and, where that finds nothing, the gcc
and ld of PATH. As root that is a risk. The other modules are imported for what kvmprobe does not use. All of them, with
what they import in turn, would take a fifth of a check's time.
"""

from __future__ import annotations

import sys
from types import ModuleType

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# By the name that find_library() is asked for: the name that a program is linked with. The others get None, which
# makes ctypes use the symbols of the program itself, among them those of the C library.
_SONAMES = {"udev": "libudev.so.1"}

# By module: what is imported from it. OF_PYUDEV serves pyudev 0.22 to 0.24, which were tried. A version that imports
# more fails and is imported again, without these stand-ins.
FIND_LIBRARY: dict[str, dict[str, Any]] = {"ctypes.util": {"find_library": _SONAMES.get}}
OF_PYUDEV: dict[str, dict[str, Any]] = {
    **FIND_LIBRARY,
    "subprocess": dict.fromkeys(("check_output", "CalledProcessError", "PIPE", "Popen")),  # udev_version()
    "threading": {"Thread": object},  # the base of MonitorObserver
    "datetime": {"timedelta": None},  # Device.time_since_initialized
}
# kvmprobe's texts are English: argparse need not search for translations.
OF_ARGPARSE: dict[str, dict[str, Any]] = {
    "gettext": {"gettext": str, "ngettext": lambda one, more, number: one if number == 1 else more},
}


class StandIns:
    """From entry to exit, each of `modules` has only the names listed for it, with these values."""

    def __init__(self, modules: Mapping[str, Mapping[str, Any]]) -> None:
        self._modules = modules

    def __enter__(self) -> None:
        self._real = {name: sys.modules.pop(name) for name in self._modules if name in sys.modules}
        for name, values in self._modules.items():
            sys.modules[name] = ModuleType(name)
            vars(sys.modules[name]).update(values)

    def __exit__(self, *_: object) -> None:
        for name in self._modules:
            del sys.modules[name]
        sys.modules.update(self._real)
