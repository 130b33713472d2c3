"""Finds reports in files, folders and streams of several reports, and cuts them into tasks of about equal size."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.errors import UsageProblem
from kvmprobe.report.reading import LIMIT, ReportFiles, open_in_folder, open_named, parts_of
from kvmprobe.summary.report_records import START

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
        batches: dict[bool, list[str]] = {False: [], True: []}  # by whether the files were found in a folder
        for path, in_folder in self._files():
            if path.endswith(_STREAM_SUFFIXES) or (not in_folder and self._is_stream(path)):
                yield from self._stream(path, in_folder)
                continue
            batches[in_folder].append(path)
            if len(batches[in_folder]) == _FILES:
                yield batches[in_folder], in_folder
                batches[in_folder] = []
        for in_folder, batch in batches.items():
            if batch:
                yield batch, in_folder

    def _files(self) -> Iterator[tuple[str, bool]]:
        """Each file, and whether it was found in a folder."""
        for path in self._paths:
            if path == "-" or not os.path.isdir(path):
                yield path, False
                continue
            files = ReportFiles(path, _SUFFIXES)
            for file in files:
                yield file, True
            self.bad += [(file, 0, why) for file, why in files.bad]
            self.ignored += files.ignored

    def _is_stream(self, path: str) -> bool:
        """Whether a file that the user named may be larger than one report. Pipes are: -, /dev/stdin, <(...)."""
        if path == "-" or not os.path.isfile(path):
            return path == "-" or os.path.exists(path)
        try:
            return os.path.getsize(path) > LIMIT
        except OSError:
            return False

    def _stream(self, path: str, in_folder: bool) -> Iterator[Task]:
        name = "standard input" if path == "-" else path
        line = 0
        source = _Source(path, in_folder)
        for line, block in _blocks(source):
            if block is None:
                self.bad.append((name, line, f"larger than {LIMIT >> 20} MiB: not a report"))
            else:
                yield (name, line, True), block
        if source.error is not None:
            self.bad.append((name, 0, _why(source.error, bool(line))))
        elif not line:
            self.bad.append((name, 0, "is empty"))


def _why(error: Exception, has_begun: bool) -> str:
    """Why a file is not read, or not to its end."""
    if type(error) is ValueError:
        return str(error)
    return f"cannot be read{' to its end' if has_begun else ''}: {getattr(error, 'strerror', None) or error}"


class _Source:
    """A file in pieces. `error`: what ended it early. All pieces before that are given, also of a damaged .gz."""

    def __init__(self, path: str, in_folder: bool) -> None:
        self._path = path
        self._in_folder = in_folder
        self.error: Exception | None = None

    def pieces(self) -> Iterator[bytes]:
        """About _BLOCK bytes each, and less only at the end. One buffered read of so many bytes from a pipe would not
        react to signals."""
        parts: list[bytes] = []
        size = 0
        try:
            with open_in_folder(self._path) if self._in_folder else open_named(self._path) as file:
                for part in parts_of(_unpacked(file) if self._path.endswith(".gz") else file, _PART):
                    parts.append(part)
                    size += len(part)
                    if size >= _BLOCK:
                        yield b"".join(parts)
                        parts, size = [], 0
        except (OSError, ValueError, EOFError, zlib.error) as error:
            self.error = error
        if parts:
            yield b"".join(parts)


def _unpacked(file: BinaryIO) -> BinaryIO:
    import gzip

    return gzip.open(file)  # type: ignore[return-value]


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
