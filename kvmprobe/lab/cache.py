"""Things that take long to make, made once: each is a folder that is there as a whole or not at all.

Several labs may use a cache at once. One makes an entry, the others wait for it. An entry never changes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kvmprobe.lab.tools import Say
from kvmprobe.model.errors import Problem

Meta = dict[str, str]

_META = "entry.json"  # {"meta": what `make` returned, "sizes": {file: bytes}}


def default() -> Path:
    """The cache folder where the user names none (XDG Base Directory Specification)."""
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path there is to be ignored.
    home = Path(xdg) if xdg.startswith("/") else Path(os.path.expanduser("~")) / ".cache"
    return home / "kvmprobe"


def entry(folder: Path, name: str, make: Callable[[Path], Meta], say: Say) -> tuple[Path, Meta]:
    """The folder `folder/name` and what is known of it; where it is missing or damaged, `make(NEW)` makes it.

    `make` puts files into the folder NEW and returns their Meta. Raises a Problem where nothing can be written, and
    whatever `make` raises; nothing half-made stays then.
    """
    place = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _exclusive(folder / f".{name}.lock", name, say):
            meta = _read(place)
            if meta is None:
                meta = _make(place, folder / f".{name}.new", make)
            os.utime(place)  # see `forget_unused`
    except OSError as error:
        where = error.filename or folder
        raise Problem(
            f"the lab's cache fails: {where}: {error.strerror or error}", "--cache DIR takes another folder."
        ) from error
    return place, meta


def forget_unused(folder: Path, prefix: str, seconds: float) -> None:
    """Removes the entries named `prefix`… that have not been used for so long, and what killed labs left of such."""
    for place in (*folder.glob(f"{prefix}*"), *folder.glob(f".{prefix}*.new")):
        with suppress(FileNotFoundError):  # another lab was quicker
            if time.time() - place.stat().st_mtime > seconds:
                shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _exclusive(path: Path, name: str, say: Say) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: waiting for another lab that makes it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(place: Path) -> Meta | None:
    try:
        known = json.loads((place / _META).read_bytes())
        sizes = {name: (place / name).stat().st_size for name in known["sizes"]}
    except (OSError, ValueError, LookupError, TypeError):
        return None
    meta: Meta = known["meta"]
    return meta if sizes == known["sizes"] else None


def _make(place: Path, new: Path, make: Callable[[Path], Meta]) -> Meta:
    shutil.rmtree(new, ignore_errors=True)  # of a lab that was killed
    try:
        new.mkdir()
        meta = make(new)
        sizes = {path.name: path.stat().st_size for path in new.iterdir()}
        (new / _META).write_text(json.dumps({"meta": meta, "sizes": sizes}))
        shutil.rmtree(place, ignore_errors=True)
        new.rename(place)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return meta
