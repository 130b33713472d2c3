"""The kernel's own tools read kvmprobe's output: KUnit's parser, and kselftest's make rules and runner."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.formats import render
from kvmprobe.formats.harness_cases import ERROR, Case, Suite
from kvmprobe.formats.ktap import render as render_suite
from kvmprobe.lab import external_programs
from kvmprobe.model.errors import Problem
from tests.helpers import kernel_source, strict_ktap
from tests.helpers.real_kernels import Guest, unavailable
from tests.helpers.recorded_evidence import RECORDED, recorded_name
from tests.helpers.run_kvmprobe import PROJECT

_DEADLINE_S = 120
_TEST = "selftests: kvmprobe: kvmprobe.sh"


@pytest.fixture(scope="session")
def tree() -> Path:
    """The needed part of the kernel's source."""
    try:
        return kernel_source.fetch()
    except Problem as problem:
        unavailable(problem)


# Parses KTAP texts with KUnit's parser. Prints for each: the status, the errors, and each test's name and status.
_READ = """
import json, sys
import kunit_parser
from kunit_printer import stdout

stdout._output = open("/dev/null", "w")
def found(test):
    return [test.name, test.status.name, [found(inner) for inner in test.subtests]]
for text in json.load(sys.stdin):
    test = kunit_parser.parse_run_tests(text.splitlines())
    print(json.dumps([test.status.name, test.counts.errors, [found(inner) for inner in test.subtests]]))
"""


@pytest.fixture
def kunit(tree: Path) -> Callable[[list[str]], list[Any]]:
    """A function that runs KUnit's parser in a process of its own, because it is not a package."""

    def read(texts: list[str]) -> list[Any]:
        done = subprocess.run(
            [sys.executable, "-c", _READ],
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
            env={**os.environ, "PYTHONPATH": str(tree / "tools/testing/kunit"), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return read


def _expected(test: strict_ktap.Test) -> list[Any]:
    status = "SKIPPED" if test.skip else "SUCCESS" if test.ok else "FAILURE"
    return [test.name, status, [_expected(inner) for inner in test.tests]]


def test_kunit_reads_the_same_as_our_parser(kunit: Callable[[list[str]], list[Any]]) -> None:
    texts = [render(json.loads(path.read_text()), "ktap") for path in RECORDED]
    matrix = [Suite("old", [Case("a", "pass"), Case("b", "skip", skip="not-for-this-kernel")]), Suite("new", skip="x")]
    wrong = Suite("newest", [Case("a", "fail"), Case("b", ERROR, "lost")])
    texts.append(render_suite(Suite("matrix", [*matrix, wrong])))
    read = kunit(texts)
    assert len(read) == len(texts)
    for name, text, (status, errors, tests) in zip([*map(recorded_name, RECORDED), "matrix"], texts, read):
        whole = strict_ktap.parse(text)
        if whole.skip:  # KUnit calls an empty plan an error, and cannot express that everything was skipped
            assert (status, tests) == ("NO_TESTS", []), name
        else:
            ok = all(test.ok for test in whole.tests)
            assert (status, errors) == ("SUCCESS" if ok else "FAILURE", 0), name
            assert tests == [_expected(test) for test in whole.tests], name


@pytest.fixture
def installed(tree: Path, tmp_path: Path) -> Path:
    """Our TEST_PROG in the kernel's tree, as documented, installed by the kernel's own make."""
    linux = tmp_path / "linux"
    shutil.copytree(tree, linux)
    selftests = linux / "tools/testing/selftests"
    shutil.copytree(PROJECT / "scripts/kselftest", selftests / "kvmprobe")
    shutil.copytree(PROJECT / "kvmprobe", selftests / "kvmprobe/kvmprobe")
    folder = tmp_path / "installed"
    try:
        external_programs.find("rsync", "rsync")
        external_programs.run(
            *(
                external_programs.find("make", "make"),
                "-C",
                selftests,
                "TARGETS=kvmprobe",
                f"KSFT_INSTALL_PATH={folder}",
            ),
            "install",
        )
    except Problem as problem:
        unavailable(problem)
    return folder


def _run(installed: Path, **environment: str) -> list[str]:
    done = subprocess.run(
        [installed / "run_kselftest.sh"],
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _inner(lines: list[str]) -> strict_ktap.Test:
    """The output of our program: kselftest's runner puts "# " before each line."""
    own = [line[2:] for line in lines if line.startswith("# ")]
    return strict_ktap.parse("\n".join(own[own.index("KTAP version 1") :]) + "\n")


def test_kselftest_on_this_host(installed: Path) -> None:
    """On any host the runner's line agrees with kvmprobe's output, and kvmprobe runs without being installed."""
    lines = _run(installed)
    assert "# timeout set to 120" in lines
    whole = _inner(lines)
    if whole.skip:
        assert lines[-1] == f"ok 1 {_TEST} # SKIP"
    else:
        ok = all(test.ok for test in whole.tests)
        assert lines[-1] == (f"ok 1 {_TEST}" if ok else f"not ok 1 {_TEST} # exit=1")


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (0, "ok 1 {}"),
        (1, "not ok 1 {} # exit=1"),
        (3, "not ok 1 {} # exit=1"),
        (4, "ok 1 {} # SKIP"),
        (64, "not ok 1 {} # exit=1"),
        (70, "not ok 1 {} # exit=1"),
    ],
)
def test_kselftest_gets_its_own_exit_status(status: int, result: str, installed: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$*"\nexit {status}\n')
    program.chmod(0o755)
    lines = _run(installed, KVMPROBE=str(program))
    assert lines[-1] == result.format(_TEST)
    assert "# check --format ktap" in lines


_FREE = ("modprobe kvm_amd",)
_SET_SVME_ON_CPU1 = (
    "modprobe msr",
    "echo on >/sys/module/msr/parameters/allow_writes",
    # EFER = 0x1d01, with a program that every Debian has: the offset is the MSR's number
    rf"printf '\001\035\0\0\0\0\0\0' | dd of=/dev/cpu/1/msr bs=8 seek={0xC0000080 // 8} conv=notrunc",
    "modprobe kvm_amd",
)


@pytest.mark.kernel
@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
def test_kselftest_on_a_kernel_with_svm(held: bool, installed: Path, guest: Guest) -> None:
    """SVM held by another owner on one CPU is a failure of that CPU alone."""
    # The runner opens /dev/stdout again. udev would make that link, and only a pipe keeps its content then.
    command = f"ln -s /proc/self/fd/1 /dev/stdout; KVMPROBE=$kvmprobe {installed}/run_kselftest.sh | cat"
    output = guest(command, prepare=_SET_SVME_ON_CPU1 if held else _FREE)
    whole = _inner(output.splitlines())
    failed = {test.name: [cpu.name for cpu in test.tests if not cpu.ok] for test in whole.tests if not test.ok}
    assert failed == ({"create-vm": ["cpu1"]} if held else {})
    assert output.splitlines()[-1] == (f"not ok 1 {_TEST} # exit=1" if held else f"ok 1 {_TEST}")
