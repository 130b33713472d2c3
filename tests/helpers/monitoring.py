"""Debian's Prometheus programs for the tests: downloaded and unpacked into the lab's cache, never installed.

Installing the packages would start their daemons.
"""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import pytest

from kvmprobe.lab import cache, external_programs
from kvmprobe.lab.apt import Apt
from kvmprobe.model.errors import Problem
from tests.helpers.run_kvmprobe import DEADLINE_S

_SUITE = "bookworm"
_PACKAGES = ("prometheus", "prometheus-node-exporter")
_PROGRAMS = ("promtool", "prometheus", "prometheus-node-exporter")


def programs() -> Path:
    """The folder with the programs. Skips the test, or fails it where KVMPROBE_REQUIRE_KERNELS is set."""
    try:
        return cache.entry(cache.default(), f"prometheus-{_SUITE}-2", _make, _say)[0]
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
            external_programs.run(external_programs.find("dpkg-deb", "dpkg"), "-x", package, Path(work, "unpacked"))
        for name in _PROGRAMS:
            Path(work, "unpacked/usr/bin", name).rename(new / name)
    return {}


@contextmanager
def node_exporter(folder: Path) -> Iterator[int]:
    """Run node_exporter with the textfile collector on `folder`; gives its port on 127.0.0.1."""
    arguments = ("--collector.disable-defaults", "--collector.uname", "--collector.textfile")
    more = (f"--collector.textfile.directory={folder}", "--web.disable-exporter-metrics")
    with _serving("prometheus-node-exporter", *arguments, *more) as port:
        yield port


@contextmanager
def prometheus(folder: Path, rules: Path, scraped: int) -> Iterator[int]:
    """Run Prometheus with its data in `folder`. It scrapes the port `scraped` each second. Gives its own port."""
    (folder / "prometheus.yml").write_text(
        f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - {{job_name: node, static_configs: [{{targets: ["127.0.0.1:{scraped}"]}}]}}
"""
    )
    arguments = (f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}")
    with _serving("prometheus", *arguments, ready="Server is ready") as port:
        yield port


def get(port: int, path: str) -> str:
    """The answer of a server on 127.0.0.1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    return text


@contextmanager
def _serving(program: str, *arguments: str, ready: str = "Listening on") -> Iterator[int]:
    """Run one of the programs at a free port of 127.0.0.1, which is in its log; end it afterwards."""
    command = [str(programs() / program), *arguments, "--web.listen-address=127.0.0.1:0"]
    with TemporaryFile() as log, subprocess.Popen(command, stderr=log) as run:
        try:
            output = ""
            ends = time.monotonic() + DEADLINE_S
            while ready not in output and run.poll() is None and time.monotonic() < ends:
                time.sleep(0.02)
                output = os.pread(log.fileno(), 1 << 20, 0).decode()
            listening = re.search(r"Listening on.*address=127\.0\.0\.1:(\d+)", output)
            assert ready in output, output
            assert listening, output
            yield int(listening[1])
        finally:
            run.kill()
