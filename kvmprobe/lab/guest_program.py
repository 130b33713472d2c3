"""This kvmprobe as a guest runs it: kvmprobe and its libraries, compiled for the guest's own Python, in an archive.

An emulated guest is slow at compiling, at reading over 9p and at searching site-packages. So this machine compiles.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kvmprobe
from kvmprobe.lab import cache, external_programs
from kvmprobe.lab.external_programs import Say
from kvmprobe.lab.initramfs import Archive
from kvmprobe.model.errors import Problem

_CACHE = "programs-1"
_ARCHIVE = "program.cpio"
_FORGET_AFTER = 7 * 24 * 3600.0  # each change of kvmprobe makes an entry
_OLDEST = (3, 9)
_LIBRARIES = ("pyudev", "ptrace")

# Runs in the guest's Python. Reads {name: source}, writes {name: .pyc}. Python uses these .pyc without a look at the
# sources (unchecked hash-based pycs, PEP 552).
_COMPILE = """
import base64, importlib.util, json, marshal, sys
done = {}
for name, text in json.load(sys.stdin).items():
    source = base64.b64decode(text)
    code = marshal.dumps(compile(source, name, "exec", dont_inherit=True))
    head = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
    done[name] = base64.b64encode(head + code).decode()
json.dump(done, sys.stdout)
"""
_ASK = "import sys; print(sys.implementation.cache_tag, *sys.version_info[:2])"


@dataclass(frozen=True)
class Python:
    """The Python `path` below the folder `root`. `tag` is in the names of its compiled files ("cpython-311").

    `folders` are those that a guest needs for it, besides those of guest_root.
    """

    root: Path
    path: str
    tag: str
    folders: tuple[Path, ...] = ()

    def command(self, *arguments: str) -> list[str]:
        """Returns the guest's command line: without site-packages and environment, which halves start-up time."""
        return [self.path, "-E", "-s", "-S", "-B", *arguments]


def python(root: Path) -> Python:
    """Returns the Python of the userspace in `root`: /usr/bin/python3. If `root` is this machine's, the Python that
    runs this program is the second choice.

    Raises a Problem if there is no Python 3.9 or later.
    """
    here = root == Path("/")
    for path in ("/usr/bin/python3", *((sys.executable,) if here else ())):
        if not os.path.lexists(root / path.lstrip("/")):
            continue
        tag, major, minor = _run(root, path, "-c", _ASK).decode().split()
        if (int(major), int(minor)) >= _OLDEST:
            return Python(root, path, tag, _own_folders() if path == sys.executable else ())
    raise Problem(f"{root} has no Python of {'.'.join(map(str, _OLDEST))} or later", "Install python3 there.")


def _own_folders() -> tuple[Path, ...]:
    """The folders of the Python that runs this program, and of the one that its virtual environment is made from."""
    folders = [Path(os.path.abspath(folder)) for folder in (sys.prefix, sys.base_prefix)]
    return tuple(folder for folder in folders if Path("/usr") not in (folder, *folder.parents))


def archive(target: Python, below: str, folder: Path, say: Say) -> bytes:
    """Returns a cpio archive with kvmprobe (without the lab) and its libraries below the folder `below`.

    `folder` is the lab's cache. Raises Problem.
    """
    sources = dict(_sources())
    digest = hashlib.sha256(f"{target.tag} {below}".encode())
    for name, data in sources.items():
        digest.update(f"\0{name}\0{len(data)}\0".encode() + data)

    def make(new: Path) -> cache.Meta:
        made = Archive()
        for name, data in (*sources.items(), *_compiled(target, sources)):
            made.file(f"{below}/{name}", data)
        (new / _ARCHIVE).write_bytes(made.finish())
        return {}

    programs = folder / _CACHE
    cache.forget_unused(programs, "", _FORGET_AFTER)
    place, _ = cache.entry(programs, digest.hexdigest()[:16], make, say)
    return (place / _ARCHIVE).read_bytes()


def _sources() -> Iterator[tuple[str, bytes]]:
    """The files of kvmprobe and of the installed libraries, with their names below one folder."""
    folders = [Path(kvmprobe.__file__).parent]
    for library in _LIBRARIES:
        spec = importlib.util.find_spec(library)
        if spec and spec.submodule_search_locations:
            folders.append(Path(spec.submodule_search_locations[0]))
    for folder in folders:
        if not folder.is_dir():
            raise Problem(f"{folder} is not a folder, so no guest can have it", "Install kvmprobe with pip.")
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and name.parts[0] != "lab" and "__pycache__" not in name.parts:
                yield f"{folder.name}/{name}", path.read_bytes()


def _compiled(target: Python, sources: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    modules = {name: base64.b64encode(data).decode() for name, data in sources.items() if name.endswith(".py")}
    compiled = json.loads(_run(target.root, target.path, "-c", _COMPILE, stdin=json.dumps(modules).encode()))
    for name, data in compiled.items():
        parent, _, file = name.rpartition("/")
        yield f"{parent}/__pycache__/{file[:-3]}.{target.tag}.pyc", base64.b64decode(data)


def _run(root: Path, path: str, *arguments: str, stdin: bytes = b"") -> bytes:
    """Runs the Python of the userspace in `root` on this machine, by chroot (in a user namespace unless root)."""
    enter: list[str] = []
    if root != Path("/"):
        unshare = [external_programs.find("unshare", "util-linux"), "-r"] if os.geteuid() != 0 else []
        enter = [*unshare, shutil.which("chroot") or "/usr/sbin/chroot", str(root)]
    return external_programs.run(*enter, path, "-I", "-S", "-B", *arguments, stdin=stdin)
