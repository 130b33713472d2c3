"""Checks that no other user can change a file or folder. What root runs and boots comes from there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kvmprobe.model.errors import Problem

_HINT = "Choose a folder with --cache DIR that only you can change, in folders that only you or root can change."


def resolved(path: Path) -> Path:
    """Returns `path` without links, which need not exist. Raises a Problem if another user can change it.

    Another user could also replace it by the folders above it. So each of them must belong to root or to this user, and
    nobody else may write to it, except to a folder with the sticky bit, where everybody can change only what is theirs.
    """
    real = Path(os.path.realpath(path))
    for part in (real, *real.parents):
        try:
            why = _why_not(part, is_parent=part != real)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Problem(f"the lab cannot use {path}: {part}: {error.strerror}", _HINT) from error
        if why:
            raise Problem(f"the lab does not use {path}: {part} {why}", _HINT)
    return real


def is_own_file(path: Path) -> bool:
    """Whether no other user can change the existing file, folder or link `path` itself. Raises OSError."""
    if path.is_symlink():
        return path.lstat().st_uid in (0, os.geteuid())
    return not _why_not(path, is_parent=False)


def _why_not(path: Path, is_parent: bool) -> str:
    """Why `path` is not trusted; "" if it is."""
    state = path.stat()
    if state.st_uid not in (0, os.geteuid()):
        return f"belongs to the user with the ID {state.st_uid}"
    if is_parent and state.st_mode & stat.S_ISVTX:
        return ""
    # A group with the number of the user is the user's own, on distributions with umask 002.
    if state.st_mode & stat.S_IWGRP and state.st_gid != state.st_uid:
        return f"can be written by the group with the ID {state.st_gid}"
    return "can be written by everybody" if state.st_mode & stat.S_IWOTH else ""
