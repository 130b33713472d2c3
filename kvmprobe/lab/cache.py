"""A cache of folders that take long to make. An entry exists completely or not at all, and never changes.

Several labs may use the cache at the same time: one makes an entry, the others wait for it.
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

from kvmprobe.lab.external_programs import Say
from kvmprobe.model.errors import Problem

Meta = dict[str, str]

_META = "entry.json"  # {"meta": what `make` returned, "sizes": {file name: bytes}}


def default() -> Path:
    """Returns the cache folder without --cache (XDG Base Directory Specification)."""
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # The specification wants a relative path to be ignored.
    home = Path(xdg) if xdg.startswith("/") else Path(os.path.expanduser("~")) / ".cache"
    return home / "kvmprobe"


def entry(folder: Path, name: str, make: Callable[[Path], Meta], say: Say) -> tuple[Path, Meta]:
    """Returns the folder `folder/name` and its Meta. If it is missing or damaged, `make(NEW)` makes it first.

    `make` writes files to the folder NEW and returns their Meta. Raises a Problem if the cache cannot be written, and
    whatever `make` raises; then nothing incomplete stays.
    """
    place = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _exclusive(folder / f".{name}.lock", name, say):
            meta = _read(place)
            if meta is None:
                meta = _make(place, folder / f".{name}.new", make)
            os.utime(place)  # the time of the last use; see `forget_unused`
    except OSError as error:
        where = error.filename or folder
        raise Problem(
            f"the lab's cache cannot be used: {where}: {error.strerror or error}",
            "Choose another folder with --cache DIR.",
        ) from error
    return place, meta


def forget_unused(folder: Path, prefix: str, seconds: float) -> None:
    """Deletes the entries named `prefix`… that were not used for `seconds`, and incomplete ones of killed labs."""
    for place in (*folder.glob(f"{prefix}*"), *folder.glob(f".{prefix}*.new")):
        with suppress(FileNotFoundError):  # another lab was faster
            if time.time() - place.stat().st_mtime > seconds:
                shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _exclusive(path: Path, name: str, say: Say) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: waiting for another lab to make it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(place: Path) -> Meta | None:
    """The Meta of a complete entry, else None."""
    try:
        stored = json.loads((place / _META).read_bytes())
        sizes = {name: (place / name).stat().st_size for name in stored["sizes"]}
    except (OSError, ValueError, LookupError, TypeError):
        return None
    meta: Meta = stored["meta"]
    return meta if sizes == stored["sizes"] else None


def _make(place: Path, new: Path, make: Callable[[Path], Meta]) -> Meta:
    shutil.rmtree(new, ignore_errors=True)  # from a lab that was killed
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
