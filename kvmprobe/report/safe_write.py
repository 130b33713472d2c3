"""Finding a file to write to in a folder that may be somebody else's; it is then the old one or the whole new one.

Sysroot writes metrics below a folder of the user prometheus. Who owns a folder must not be able to make root write,
or change the mode of, what is elsewhere. So the way to the folder is gone step by step, links are followed only
where they can be trusted, and from then on names are looked up in the folder that is open.
"""

from __future__ import annotations

import errno
import os
import stat

_PART = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40  # as the kernel's own limit


def replace(path: str, text: str, mode: int | None) -> None:
    """Writes `text` beside `path` and renames it. Raises OSError.

    `mode`: what the file gets, whatever the umask is; without one, a file that is there keeps mode and group.
    """
    folder, name = open_folder(path)
    # With a dot: programs that read every file of a folder leave it alone, also what a kill has left behind.
    beside = f".{name}.{os.getpid()}.tmp"
    try:
        with os.fdopen(_create(folder, beside), "w", encoding="utf-8") as file:
            # Before there is anything to read; and by the descriptor, since whoever owns the folder may have put
            # another file in place of the name.
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            else:
                _keep(folder, name, file.fileno())
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        try:
            os.unlink(beside, dir_fd=folder)
        except OSError:
            pass
        raise
    finally:
        os.close(folder)


def open_folder(path: str) -> tuple[int, str]:
    """The folder of the file that `path` leads to, opened, and the file's name in it. Raises OSError."""
    full = path if path.startswith("/") else f"{os.getcwd()}/{path}"
    left = full.split("/")[::-1]
    doubtful = set()  # whose the links on the way are
    links = 0
    folder = os.open("/", _PART)
    try:
        while left:
            part = left.pop()
            if part in ("", "."):
                continue
            try:
                found = _open_part(part, folder)
            except FileNotFoundError:
                if left:
                    raise
                break
            info = os.fstat(found)
            if stat.S_ISLNK(info.st_mode):
                target = os.readlink("", dir_fd=found)
                os.close(found)
                links += 1
                if links > _LINKS:
                    raise _error(errno.ELOOP)
                doubtful.add(info.st_uid)
                left += target.split("/")[::-1]
                if target.startswith("/"):
                    os.close(folder)
                    folder = os.open("/", _PART)
            elif left:
                os.close(folder)
                folder = found
            else:
                os.close(found)
                break
        else:
            raise _error(errno.EISDIR)
        # Another user's link leads to that user's own folders or nowhere: not to where only root may write.
        for user in doubtful - {0, os.geteuid(), os.fstat(folder).st_uid}:
            raise PermissionError(errno.EACCES, f"a link on the way there is another user's (uid {user})")
    except BaseException:
        os.close(folder)
        raise
    return folder, part


def find_special(path: str) -> int:
    """The pipe or device that `path` leads to, found and not opened (O_PATH). Raises OSError, also where it is another
    user's: whoever made a pipe decides for how long its writers wait."""
    folder, name = open_folder(path)
    try:
        found = os.open(name, _PART, dir_fd=folder)
    finally:
        os.close(folder)
    info = os.fstat(found)
    if info.st_uid not in (0, os.geteuid()) or stat.S_ISREG(info.st_mode):  # it may have become one since it was seen
        os.close(found)
        raise PermissionError(errno.EACCES, f"it is, or was, no regular file, and another user's (uid {info.st_uid})")
    return found


def open_special(path: str) -> int:
    """The same, opened for writing. Raises OSError."""
    found = find_special(path)
    try:
        return os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    finally:
        os.close(found)


def _open_part(name: str, folder: int) -> int:
    """A folder, a link itself, or a file."""
    try:
        return os.open(name, _PART | os.O_DIRECTORY, dir_fd=folder)  # so that an automounter mounts it
    except NotADirectoryError:
        return os.open(name, _PART, dir_fd=folder)


def _create(folder: int, name: str) -> int:
    """A new file. One that is there was left by a run that was killed and had the same PID, as in a container."""
    try:
        return os.open(name, _NEW, 0o666, dir_fd=folder)
    except FileExistsError:
        os.unlink(name, dir_fd=folder)
        return os.open(name, _NEW, 0o666, dir_fd=folder)


def _keep(folder: int, name: str, new: int) -> None:
    """Gives the file `new` the mode and group of the one called `name`: somebody chose who may read it."""
    try:
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    mode, made, where = old.st_mode & 0o777, os.fstat(new), os.fstat(folder)
    shared = where.st_mode & 0o022 and not where.st_mode & stat.S_ISVTX
    others = shared or where.st_uid not in (0, made.st_uid)  # who can rename or link another file of ours to this name
    if others or old.st_uid != made.st_uid or old.st_nlink > 1:
        mode &= made.st_mode  # others' choice may take rights away, not give them
    elif old.st_gid != made.st_gid:
        try:
            os.fchown(new, -1, old.st_gid)
        except OSError:
            mode &= ~0o070  # meant for another group than it has now
    os.fchmod(new, mode)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
