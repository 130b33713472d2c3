"""Finds reports in files, folders and streams of several reports, and cuts them into tasks of about equal size."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterator, Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.errors import UsageProblem
from kvmprobe.report.reading import MATRIX_SUMMARY, parts_of
from kvmprobe.summary.report_records import LIMIT, START

if TYPE_CHECKING:
    from typing import BinaryIO

    from kvmprobe.summary.report_records import Bad, Task


_SUFFIXES = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")  # of the files read in folders
_STREAM_SUFFIXES = (".jsonl", ".ndjson", ".gz")
_FILES = 64  # in a task: some milliseconds of work
_BLOCK = 1 << 20  # bytes of a stream in a task
_PART = 1 << 16  # bytes that a damaged .gz costs at most


class Inputs:
    """The files, folders and "-" (standard input) that a user named.

    `bad`: what could not be read here, before any task: file, line, why. `ignored`: how many files in the folders
    cannot be reports. Both are complete when all tasks have been taken. Raises UsageProblem.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        for path in paths:
            if path != "-" and not os.path.lexists(path):
                raise UsageProblem(f"{path}: no such file or folder")
        if list(paths).count("-") > 1:
            raise UsageProblem("standard input cannot be read twice", "Name - once.")
        self._paths = dict.fromkeys(paths)
        self.bad: Bad = []
        self.ignored = 0

    def tasks(self) -> Iterator[Task]:
        """The tasks: some files each, or a block of a stream."""
        batch: list[str] = []
        for path in self._files():
            if path == "-" or self._is_stream(path):
                yield from self._stream(path)
                continue
            batch.append(path)
            if len(batch) == _FILES:
                yield batch, None
                batch = []
        if batch:
            yield batch, None

    def _files(self) -> Iterator[str]:
        for path in self._paths:
            if path != "-" and os.path.isdir(path):
                yield from self._walk(path)
            else:
                yield path

    def _walk(self, top: str) -> Iterator[str]:
        for folder, folders, names in os.walk(top, onerror=self._unreadable):
            self.ignored += sum(os.path.islink(os.path.join(folder, name)) for name in folders)  # not followed
            for name in names:
                if name.endswith(_SUFFIXES) and name != MATRIX_SUMMARY:
                    path = os.path.join(folder, name)
                    if name.endswith(_STREAM_SUFFIXES) and not os.path.isfile(path):
                        self.bad.append((path, 0, "is not a file"))  # opening a pipe would wait for a writer
                    else:
                        yield path
                else:
                    self.ignored += 1

    def _unreadable(self, error: OSError) -> None:
        self.bad.append((str(error.filename), 0, f"cannot be read: {error.strerror}"))

    def _is_stream(self, path: str) -> bool:
        """Whether it may be larger than one report. Pipes that the user named are streams as well: /dev/stdin, <(…)."""
        if path.endswith(_STREAM_SUFFIXES):
            return True
        if path in self._paths and not os.path.isfile(path):
            return os.path.exists(path)
        try:
            return path in self._paths and os.path.getsize(path) > LIMIT
        except OSError:
            return False

    def _stream(self, path: str) -> Iterator[Task]:
        name = "standard input" if path == "-" else path
        line = 0
        source = _Source(path)
        for line, block in _blocks(source):
            if block is None:
                self.bad.append((name, line, f"larger than {LIMIT >> 20} MiB: not a report"))
            else:
                yield (name, line, True), block
        if source.error is not None:
            why = getattr(source.error, "strerror", None) or source.error
            self.bad.append((name, 0, f"cannot be read{' to its end' if line else ''}: {why}"))
        elif not line:
            self.bad.append((name, 0, "is empty"))


def _open(path: str) -> BinaryIO:
    if path == "-":
        if sys.stdin is None:
            raise ValueError("it is closed")
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    if path.endswith(".gz"):
        import gzip

        return gzip.open(path)  # type: ignore[return-value]
    return open(path, "rb", buffering=0)


class _Source:
    """A file in pieces. `error`: what ended it early. All pieces before that are given, also of a damaged .gz."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.error: Exception | None = None

    def pieces(self) -> Iterator[bytes]:
        """About _BLOCK bytes each, and less only at the end. One buffered read of so many bytes from a pipe would not
        react to signals."""
        parts: list[bytes] = []
        size = 0
        try:
            with _open(self._path) as file:
                for part in parts_of(file, _PART):
                    parts.append(part)
                    size += len(part)
                    if size >= _BLOCK:
                        yield b"".join(parts)
                        parts, size = [], 0
        except (OSError, ValueError, EOFError, zlib.error) as error:
            self.error = error
        if parts:
            yield b"".join(parts)


def _blocks(source: _Source) -> Iterator[tuple[int, bytes | None]]:
    """Whole records, many at a time, with the number of their first line; None for a record that is too large."""
    line, rest, skipping = 1, b"", False
    for piece in source.pieces():
        rest += piece
        cut = rest.rfind(START) + 1
        if cut and skipping:
            begin = rest.find(START) + 1
            line += rest.count(b"\n", 0, begin)
            rest, cut, skipping = rest[begin:], cut - begin, False
        if cut:
            yield line, rest[:cut]
            line += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
        elif len(rest) > LIMIT or skipping:
            if not skipping:
                yield line, None
            skipping = True
            line += rest.count(b"\n", 0, len(rest) - 1)
            rest = rest[-1:]
    if rest and not skipping:
        yield line, rest
