"""A cache of folders that take long to make. An entry exists completely or not at all, and never changes.

Several labs may use the cache at the same time: one makes an entry, the others wait for it. Root boots and runs what is
in the cache, so only this user and root may be able to change it, and an entry must have the content that it was made
with.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kvmprobe.lab import content_digest, keeper, trusted_paths
from kvmprobe.lab.external_programs import Say
from kvmprobe.model.errors import Problem

Meta = dict[str, str]

# {"meta": what `make` returned, "sizes": {file name: bytes}, "sha256": {file name: digest}}. An entry of an earlier
# version has no digests; they are added when it is first used.
_META = "entry.json"

# Entries whose content this process has compared, and the states of their files then.
_compared: dict[Path, list[tuple[int, int]]] = {}


def default() -> Path:
    """Returns the cache folder without --cache (XDG Base Directory Specification)."""
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # The specification wants a relative path to be ignored.
    home = Path(xdg) if xdg.startswith("/") else Path(os.path.expanduser("~")) / ".cache"
    return home / "kvmprobe"


def entry(folder: Path, name: str, make: Callable[[Path], Meta], say: Say) -> tuple[Path, Meta]:
    """Returns the folder `folder/name` and its Meta. If it is missing or damaged, `make(NEW)` makes it first.

    `make` writes files to the folder NEW and returns their Meta. Raises a Problem if the cache cannot be written or
    another user can change it, and whatever `make` raises; then nothing incomplete stays.
    """
    folder = make_folder(folder)
    place = trusted_paths.resolved(folder / name)
    try:
        with _exclusive(folder / f".{name}.lock", name, say):
            meta = _read(place)
            if meta is None:
                meta = _make(place, folder / f".{name}.new", make)
            os.utime(place)  # the time of the last use; see `forget_unused`
    except OSError as error:
        raise _unusable(error, folder) from error
    return place, meta


def make_folder(folder: Path) -> Path:
    """Makes a folder of the cache, if it is missing, and returns its path without links.

    Raises a Problem if that fails or another user can change the folder.
    """
    real = trusted_paths.resolved(folder)
    try:
        for part in reversed((real, *real.parents)):
            part.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise _unusable(error, folder) from error
    return trusted_paths.resolved(real)


def _unusable(error: OSError, folder: Path) -> Problem:
    where = error.filename or folder
    return Problem(
        f"the lab's cache cannot be used: {where}: {error.strerror or error}", "Choose another folder with --cache DIR."
    )


def forget_unused(folder: Path, prefix: str, seconds: float) -> None:
    """Deletes the entries named `prefix`… that were not used for `seconds`, and incomplete ones of killed labs.

    Raises a Problem if another user can change `folder`.
    """
    folder = trusted_paths.resolved(folder)
    for place in (*folder.glob(f"{prefix}*"), *folder.glob(f".{prefix}*.new")):
        with suppress(FileNotFoundError):  # another lab was faster
            if time.time() - place.stat().st_mtime > seconds:
                shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _exclusive(path: Path, name: str, say: Say) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: waiting for another lab to make it …")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _read(place: Path) -> Meta | None:
    """The Meta of a complete entry with the content that it was made with, else None."""
    try:
        stored: Any = json.loads((place / _META).read_bytes())
        sizes = {name: (place / name).stat().st_size for name in stored["sizes"]}
        own = all(trusted_paths.is_own_file(place / name) for name in (_META, *sizes))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if not own or sizes != stored["sizes"]:
        return None
    if _compared.get(place) != _states(place, sizes):
        digests = {name: content_digest.of(place / name) for name in sizes}
        if stored.setdefault("sha256", digests) != digests:
            return None
        _store(place, stored)
        _compared[place] = _states(place, sizes)
    meta: Meta = stored["meta"]
    return meta


def _make(place: Path, new: Path, make: Callable[[Path], Meta]) -> Meta:
    shutil.rmtree(new, ignore_errors=True)  # from an earlier version that was killed
    with keeper.folder(new, 0o755):
        meta = make(new)
        names = [path.name for path in new.iterdir()]
        for name in names:
            if not (new / name).is_symlink():
                (new / name).chmod((new / name).stat().st_mode & ~0o022)  # whatever the umask is
        sizes = {name: (new / name).stat().st_size for name in names}
        _store(new, {"meta": meta, "sizes": sizes, "sha256": {name: content_digest.of(new / name) for name in names}})
        shutil.rmtree(place, ignore_errors=True)
        new.rename(place)
    return meta


def _store(place: Path, content: object) -> None:
    """Writes entry.json, if it changes."""
    text = json.dumps(content)
    path = place / _META
    if not path.exists() or path.read_text() != text:
        part = place / f".{_META}"
        part.write_text(text)
        part.chmod(0o644)
        part.rename(path)


def _states(place: Path, names: Iterable[str]) -> list[tuple[int, int]]:
    """What changes with the content of the files."""
    states = [(place / name).stat() for name in sorted(names)]
    return [(state.st_ino, state.st_ctime_ns) for state in states]
