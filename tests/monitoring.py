"""Debian's Prometheus programs for the tests: downloaded and unpacked into the lab's cache, never installed.

Installing the packages would start their daemons.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kvmprobe.errors import Problem
from kvmprobe.lab import cache, tools
from kvmprobe.lab.apt import Apt
from tests.conftest import DEADLINE_S

_SUITE = "bookworm"
_PACKAGES = ("prometheus", "prometheus-node-exporter")
_PROGRAMS = ("promtool", "prometheus-node-exporter")


def programs() -> Path:
    """The folder with promtool and prometheus-node-exporter. Skips, or fails where everything is required."""
    try:
        return cache.entry(cache.default(), f"prometheus-{_SUITE}-1", _make, _say)[0]
    except Problem as problem:
        reason = f"no Prometheus here: {problem.message}"
        if os.environ.get("KVMPROBE_REQUIRE_KERNELS"):
            pytest.fail(reason)
        pytest.skip(reason)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _make(new: Path) -> cache.Meta:
    with TemporaryDirectory(dir=new) as work:
        apt = Apt(_SUITE, Path(work, "apt"))
        apt.update()
        for package in apt.download(_PACKAGES, _say):
            tools.run(tools.find("dpkg-deb", "dpkg"), "-x", package, Path(work, "unpacked"))
        for name in _PROGRAMS:
            Path(work, "unpacked/usr/bin", name).rename(new / name)
    return {}


@contextmanager
def node_exporter(folder: Path) -> Iterator[int]:
    """Debian's node_exporter with the textfile collector on `folder`; gives its port on 127.0.0.1."""
    command = [
        str(programs() / "prometheus-node-exporter"),
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={folder}",
        "--web.listen-address=127.0.0.1:0",
        "--web.disable-exporter-metrics",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        guard = threading.Timer(DEADLINE_S, run.kill)
        guard.start()
        try:
            said = []
            for line in run.stderr:
                said.append(line)
                listening = re.search(r"Listening on.*address=127\.0\.0\.1:(\d+)", line)
                if listening:
                    break
            else:
                raise AssertionError("".join(said))
            # It logs failures to read a file: nobody would empty the pipe.
            threading.Thread(target=run.stderr.read, daemon=True).start()
            yield int(listening[1])
        finally:
            guard.cancel()
            run.kill()
