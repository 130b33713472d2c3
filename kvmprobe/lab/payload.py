"""What goes into a guest besides the kernel's base archive: this kvmprobe, the preparation, the command.

kvmprobe comes compiled in the initramfs, for the guest is slow at compiling and at reading over 9p. Its interpreter
and libraries are those of the guest's root.
"""

from __future__ import annotations

import importlib.util
import marshal
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path

import kvmprobe
from kvmprobe.errors import Problem
from kvmprobe.lab.initramfs import Archive

_LAB = "/lab"  # in the initramfs
_FOLDER = "/kvmprobe-lab"  # the same in the guest's root, see init.sh
_UNCHECKED_HASH = 0b01  # flags of a .pyc (PEP 552)


def kvmprobe_command(arguments: Sequence[str], python: str) -> list[str]:
    """The command that runs this kvmprobe in a guest, with an interpreter that is in the guest's root."""
    # The user's HOME, because pyudev may be installed below it.
    home = os.environ.get("HOME", "/root")
    environment = [f"HOME={home}", f"PYTHONPATH={_FOLDER}", "LC_ALL=C.UTF-8"]
    return ["env", *environment, python, "-B", "-m", "kvmprobe", *arguments]


def archive(prepare: Sequence[str], command: Sequence[str]) -> bytes:
    """The archive of one boot. `prepare`: lines of sh that run in the guest before `command`."""
    made = Archive()
    made.file("init", Path(__file__).with_name("init.sh").read_bytes(), 0o755)
    made.file(f"{_LAB}/prepare", "".join(f"{line}\n" for line in prepare).encode())
    # -m puts the working folder first on Python's path.
    made.file(f"{_LAB}/command", f"cd {_FOLDER} && exec {shlex.join(command)}\n".encode())
    for path, data in _package():
        made.file(f"{_LAB}/kvmprobe/{path}", data)
    return made.finish()


def _package() -> Iterator[tuple[Path, bytes]]:
    """The files of this package and the compiled ones, as they are needed in a guest."""
    folder = Path(kvmprobe.__file__).parent
    if not folder.is_dir():
        raise Problem(f"{folder} is not a folder, so kvmprobe cannot be put into a guest", "Install kvmprobe with pip.")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not path.is_file() or "__pycache__" in name.parts or name.parts[0] == "lab":
            continue
        data = path.read_bytes()
        yield name, data
        if path.suffix == ".py":
            yield name.parent / "__pycache__" / f"{name.stem}.{sys.implementation.cache_tag}.pyc", _compiled(path, data)


def _compiled(path: Path, source: bytes) -> bytes:
    """A .pyc that is used whatever the time stamp of its source."""
    code = SourceFileLoader(path.stem, str(path)).get_code(path.stem)  # from the host's own __pycache__ where it can
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little") + importlib.util.source_hash(source)
    return header + marshal.dumps(code)
