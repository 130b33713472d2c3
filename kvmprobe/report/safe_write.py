"""Replaces a file atomically, in a folder that may belong to somebody else.

Root writes metrics below a folder of the user prometheus, for instance. The owner of a folder must not make root
write, or change the permissions of, a file elsewhere. So the path is walked part by part, a link is followed only where
its owner may decide about the target, and the file's name is then looked up in the folder that is open.
"""

from __future__ import annotations

import errno
import os
import stat

_FIND = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC  # found, not opened: a pipe does not block, a device does nothing
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST = 100  # bytes of a name that are kept in that of the temporary file
_MAX_LINKS = 40  # MAXSYMLINKS, include/linux/namei.h


def replace_file(path: str, text: str, mode: int | None) -> None:
    """Write `text` to a new file beside `path` and rename it to `path`. Raises OSError; `path` is then as it was.

    `mode`: the permissions of the file, whatever the umask is. None: an existing file keeps its permissions and group.
    """
    folder, name = open_folder(path)
    # The dot hides it from programs that read every file of a folder, also after a kill has left it behind. The name
    # itself may be as long as the file system allows.
    temporary = f".{os.fsdecode(os.fsencode(name)[:_LONGEST])}.{os.getpid()}.tmp"
    try:
        with os.fdopen(_create(folder, temporary), "w", encoding="utf-8") as file:
            # The permissions come before the content. They are set by descriptor, since the folder's owner may have
            # put another file in place of the name.
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            else:
                _copy_permissions(folder, name, file.fileno())
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        try:
            os.unlink(temporary, dir_fd=folder)
        except OSError:
            pass
        raise
    finally:
        os.close(folder)


def open_folder(path: str) -> tuple[int, str]:
    """Return the folder of the file that `path` leads to as a descriptor, and the file's name in it. Raises OSError."""
    full = path if path.startswith("/") else f"{os.getcwd()}/{path}"
    left = full.split("/")[::-1]
    link_owners = set()
    links = 0
    folder = os.open("/", _FIND)
    try:
        while left:
            part = left.pop()
            if part in ("", "."):
                continue
            try:
                found = _find_part(part, folder)
            except FileNotFoundError:
                if left:
                    raise
                break
            info = os.fstat(found)
            if stat.S_ISLNK(info.st_mode):
                target = os.readlink("", dir_fd=found)
                os.close(found)
                links += 1
                if links > _MAX_LINKS:
                    raise _os_error(errno.ELOOP)
                link_owners.add(info.st_uid)
                left += target.split("/")[::-1]
                if target.startswith("/"):
                    os.close(folder)
                    folder = os.open("/", _FIND)
            elif left:
                os.close(folder)
                folder = found
            else:
                os.close(found)
                break
        else:
            raise _os_error(errno.EISDIR)
        # Another user's link may lead to a folder of that user, and not to where only root may write.
        for user in link_owners - {0, os.geteuid(), os.fstat(folder).st_uid}:
            raise PermissionError(errno.EACCES, f"a link in the path belongs to another user (uid {user})")
    except BaseException:
        os.close(folder)
        raise
    return folder, part


def find_special(path: str) -> int:
    """Return a descriptor (O_PATH) of the pipe or device that `path` leads to, without opening it. Raises OSError.

    One of another user is refused: the owner of a pipe decides for how long its writers wait.
    """
    folder, name = open_folder(path)
    try:
        found = os.open(name, _FIND, dir_fd=folder)
    finally:
        os.close(folder)
    info = os.fstat(found)
    if info.st_uid not in (0, os.geteuid()):
        os.close(found)
        raise PermissionError(errno.EACCES, f"the pipe or device belongs to another user (uid {info.st_uid})")
    if stat.S_ISREG(info.st_mode):
        os.close(found)
        raise PermissionError(errno.EACCES, "it was a pipe or device, and is a file now")
    return found


def open_special(path: str) -> int:
    """Return a descriptor for writing to the pipe or device that `path` leads to. Raises OSError."""
    found = find_special(path)
    try:
        return os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    finally:
        os.close(found)


def _find_part(name: str, folder: int) -> int:
    """Return a descriptor (O_PATH) of a folder, file, or link itself."""
    try:
        return os.open(name, _FIND | os.O_DIRECTORY, dir_fd=folder)  # O_DIRECTORY has an automounter mount it
    except NotADirectoryError:
        return os.open(name, _FIND, dir_fd=folder)


def _create(folder: int, name: str) -> int:
    """Return a descriptor of a new file. A file of that name is a killed run's with the same PID, as in containers."""
    try:
        return os.open(name, _CREATE, 0o666, dir_fd=folder)
    except FileExistsError:
        os.unlink(name, dir_fd=folder)
        return os.open(name, _CREATE, 0o666, dir_fd=folder)


def _copy_permissions(folder: int, name: str, new: int) -> None:
    """Give the file `new` (a descriptor) the permissions and group of the file `name`: its owner chose the readers.

    Where other users can put a file of ours under that name, its permissions may only restrict those of `new`.
    """
    try:
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    mode, created, parent = old.st_mode & 0o777, os.fstat(new), os.fstat(folder)
    is_shared = parent.st_mode & 0o022 and not parent.st_mode & stat.S_ISVTX
    others_rename = is_shared or parent.st_uid not in (0, created.st_uid)
    if others_rename or old.st_uid != created.st_uid or old.st_nlink > 1:
        mode &= created.st_mode
    elif old.st_gid != created.st_gid:
        try:
            os.fchown(new, -1, old.st_gid)
        except OSError:
            mode &= ~0o070  # the permissions of a group that is not the new file's
    os.fchmod(new, mode)


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
