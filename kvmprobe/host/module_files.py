"""The files that decide whether modprobe finds and loads kvm_amd. Every user may read them.

Sources: modprobe(8), modprobe.d(5), depmod(8), Documentation/kbuild/kbuild.rst (modules.builtin).
"""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.run_program import run_program
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import ConfigurationLine, Failure, ModuleFiles, WouldRun

# Where distributions have the modules; the last two are of NixOS and Guix.
_FOLDERS = ("/lib", "/usr/lib", "/run/booted-system/kernel-modules/lib", "/run/booted-system/kernel/lib")
# By precedence: a file masks those of its name in later folders.
_CONFIGURATION = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
_LINE = re.compile(r"\s*(?:blacklist|install|options|alias|softdep)\s+(?:kvm|kvm[-_]amd|ccp|irqbypass)(?:\s|$)")
_IN_INDEX = re.compile(r"/kvm[-_]amd\.ko\b")
_MOST_LINES = 50


def read_module_files(root: Sysroot, release: str) -> ModuleFiles:
    """Return what modprobe finds of kvm_amd for the running kernel, whose release is `release`.

    Only on this machine modprobe is asked, too. It changes nothing: -n runs nothing, -c prints its configuration.
    """
    folders = [folder for name in _FOLDERS if (folder := _folder(root, name, release)) is not None]
    folder = next((found for found in folders if isinstance(found, str)), None)
    failed = next((found for found in folders if not isinstance(found, str)), False)
    index = root.exists(f"{folder}/modules.dep") if folder else None
    return {
        "folder": True if folder else failed,
        "index": index,
        "kvm_amd": _in_index(root, folder) if folder else None,
        "lines": read_configuration(root),
        "would_run": _would_run() if root.is_real else None,
        "in_force": _in_force() if root.is_real else None,
        "loading_disabled": root.read_value("/proc/sys/kernel/modules_disabled"),
    }


def read_configuration(root: Sysroot) -> list[ConfigurationLine] | Failure:
    """Return the lines of modprobe's configuration that are about kvm_amd and the modules that it needs."""
    lines: list[ConfigurationLine] = []
    seen: set[str] = set()
    for above in _CONFIGURATION:
        folder = f"{above}/modprobe.d"
        for name in root.list_folder(folder):
            if not name.endswith(".conf") or name in seen:
                continue
            seen.add(name)
            text = root.read_value(f"{folder}/{name}")
            for number, line in enumerate(text.split("\n") if isinstance(text, str) else (), 1):
                if _LINE.match(line) and len(lines) < _MOST_LINES:
                    lines.append({"file": f"{folder}/{name}", "number": number, "text": line.strip()})
    return lines


def _folder(root: Sysroot, name: str, release: str) -> str | Failure | None:
    """The folder of the kernel's modules; None where it does not exist."""
    folder = f"{name}/modules/{release}"
    try:
        root.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        return failure(error) if isinstance(error, OSError) else {"error": str(error)}
    return folder


def _in_index(root: Sysroot, folder: str) -> str | None:
    for name, kind in (("modules.dep", "module"), ("modules.builtin", "builtin")):
        if _IN_INDEX.search(root.read_text_or_none(f"{folder}/{name}") or ""):
            return kind
    return None


def _would_run() -> WouldRun:
    """What `modprobe kvm_amd` would do, by `modprobe -n -v`: "insmod FILE", or "install COMMAND" of an install line."""
    status, output = run_program("modprobe", "-n", "-v", "kvm_amd")
    return {"status": status, "output": output[:2000]}


def _in_force() -> list[str] | None:
    """The lines about kvm_amd in the configuration that modprobe has put together (`modprobe -c`), which includes the
    kernel's command line; None where modprobe cannot be run."""
    status, output = run_program("modprobe", "-c")
    if status != 0:
        return None
    # Most lines are aliases of other modules.
    return [line.strip() for line in output.split("\n") if "kvm" in line and _LINE.match(line)][:_MOST_LINES]
