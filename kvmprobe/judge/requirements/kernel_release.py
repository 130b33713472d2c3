"""Versions of Linux in order: releases, release candidates, and the names that distributions give them."""

from __future__ import annotations

import re

_NUMBERS = r"([0-9]{1,5})\.([0-9]{1,5})(?:\.([0-9]{1,5}))?(?![0-9])"
_LIMIT = re.compile(rf"{_NUMBERS}(?:-rc([0-9]{{1,3}}))?")
# Upstream 6.12.0-rc3, Debian 6.12~rc3-amd64, Fedora 6.12.0-0.rc3.20241018git.31.fc42.x86_64.
_RELEASE = re.compile(rf"{_NUMBERS}(?:[-~](?:0\.)?rc([0-9]{{1,3}})(?![0-9]))?(.*)", re.DOTALL)
# In what uname calls the version: "#1 SMP Debian 5.10.223-1 (2024-08-10)".
_DEBIAN = re.compile(rf"Debian {_NUMBERS}[-+~]")

FINAL = 1000  # in place of a release candidate's number: a release comes after all of them
LATEST = 100_000  # in place of a stable release's number: at least as late as any

Version = tuple[int, int, int, int]  # 6, 12, 0, and 7 for -rc7 or FINAL


def parse_limit(text: str) -> Version:
    """ "6.12", "6.12.5" or "6.12-rc3". Raises ValueError, also for the name of a distribution's kernel: their numbers
    have an order of their own."""
    match = _LIMIT.fullmatch(text)
    if not match:
        raise ValueError("the limit is not a version such as 6.12, 6.12.5 or 6.12-rc3")
    return _version(match)


def possible_versions(release: str, version: str) -> tuple[Version, Version] | None:
    """The lowest and the highest version of Linux that a kernel can be, by uname's release and version.

    Distributions count their own releases behind the version and leave .0 there (5.14.0-427.el9, 6.8.0-45-generic):
    which stable release is in it is unknown, unless the version has it as Debian's does. None for another kind of name.
    """
    match = _RELEASE.match(release)
    if not match:
        return None
    found = _version(match)
    debian = _DEBIAN.search(version)
    if debian and (int(debian[1]), int(debian[2])) == found[:2] and found[3] == FINAL:
        found = (*found[:2], int(debian[3] or 0), FINAL)
        return found, found
    has_own_count = match[3] == "0" and match[4] is None and match[5].startswith("-")
    return found, ((*found[:2], LATEST, FINAL) if has_own_count else found)


def _version(match: re.Match[str]) -> Version:
    major, minor, stable, candidate = match.groups()[:4]
    return int(major), int(minor), int(stable or 0), FINAL if candidate is None else int(candidate)
