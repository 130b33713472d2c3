"""A summary in several processes: the same result in any order, bounded memory, and no process left behind."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.model.errors import Problem
from kvmprobe.summary.parallel import run_parallel
from tests.helpers.counted import NUMBERS
from tests.helpers.fleet_reports import equal_hosts, host, lines, write_reports
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe
from tests.helpers.summaries import summary


def square(number: int) -> tuple[int, int]:
    """The process that worked, and its result."""
    return os.getpid(), number * number


def test_all_results_come_from_other_processes() -> None:
    results = list(run_parallel(iter(range(50)), square, 3))
    assert sorted(result for _, result in results) == [number * number for number in range(50)]
    processes = {process for process, _ in results}
    assert os.getpid() not in processes
    assert len(processes) <= 3


@pytest.mark.parametrize(("tasks", "jobs"), [(1, 4), (5, 1), (0, 4)])
def test_one_task_or_one_job_stays_in_this_process(tasks: int, jobs: int) -> None:
    assert list(run_parallel(iter(range(tasks)), square, jobs)) == [(os.getpid(), n * n) for n in range(tasks)]


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_few_tasks_are_read_ahead_of_the_results(jobs: int) -> None:
    """A task may contain a part of a file, so all tasks at once would not fit into memory."""
    read = 0

    def tasks() -> Iterator[int]:
        nonlocal read
        for number in range(200):
            read += 1
            yield number

    for number, _ in enumerate(run_parallel(tasks(), square, jobs)):
        assert read - number <= jobs + 2
    assert read == 200


def fail(number: int) -> int:
    raise MemoryError(number)


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize(("work", "error"), [(fail, MemoryError), (die, Problem)])
def test_an_error_or_death_in_a_process_ends_the_others(work: Any, error: type[Exception]) -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text()
    with pytest.raises(error):
        list(run_parallel(iter(range(50)), work, 3))
    assert children.read_text() == before


@pytest.fixture
def mixed(tmp_path: Path) -> list[Path]:
    """Files of every kind, with 300 hosts together, and a damaged file."""
    reports = [host(f"h{index}", taken_at=f"2026-11-{index % 28 + 1:02}T00:00:00Z") for index in range(300)]
    reports[7] = host("h7", "matrix/trixie/svmdis")
    (tmp_path / "many").mkdir()
    write_reports(tmp_path / "many", reports[:150])
    (tmp_path / "lines.jsonl").write_text(lines(reports[150:200]))
    with gzip.open(tmp_path / "packed.ndjson.gz", "wt") as file:
        file.write(lines(reports[200:250]))
    (tmp_path / "one-after-the-other").write_text("".join(json.dumps(one, indent=1) + "\n" for one in reports[250:]))
    older = host("h5", "matrix/trixie/svmdis", taken_at="2026-10-01T00:00:00Z")
    (tmp_path / "older.json").write_text(json.dumps(older))
    (tmp_path / "bad.json").write_text('{"schema": "kvmprobe.report/1"')
    return sorted(tmp_path.iterdir())


def test_the_order_of_files_and_the_number_of_processes_do_not_matter(mixed: list[Path]) -> None:
    random.seed(6)
    for form in ("json", "text", "html"):
        outputs = set()
        for jobs in (1, 2, 3):
            random.shuffle(mixed)
            done = kvmprobe("summary", "-v", "--jobs", str(jobs), "--format", form, *mixed)
            assert done.returncode == 1
            outputs.add(done.stdout)
        assert len(outputs) == 1, form
    data, _ = summary(*mixed)
    assert data["reports"] == {"read": 301, "older": 1, "judged_again": 0, "bad": 1}
    assert data["counts"]["hosts"] == 300
    assert data["outliers"] == []


def peak_mib(*arguments: str | Path, feed: list[bytes]) -> float:
    """The peak of the resident memory of a summary's own process, by its /proc/self/status, with `feed` on stdin."""
    code = (
        "import sys; from kvmprobe.cli import parser; parser.run(sys.argv[1:]); import re; "
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "summary", "-q", *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=PROJECT
    ) as process:
        assert process.stdin is not None
        for block in feed:
            process.stdin.write(block)
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    return int(errors.split()[-1]) / 1024


def test_memory_grows_with_hosts_and_not_with_reports() -> None:
    text = lines([host("@")]).encode()
    few = peak_mib("-", feed=[text.replace(b"@", b"h%d" % (index % 100)) for index in range(3000)])
    field = b'"summary": "'  # different in each report, as with PIDs in it
    often = peak_mib(
        "-",
        feed=[
            text.replace(b"@", b"h%d" % (index % 100)).replace(field, field + b"%d " % index * 50, 1)
            for index in range(16000)
        ],
    )
    hosts = peak_mib("-", feed=[text.replace(b"@", b"h%d" % index) for index in range(8000)])
    each = (hosts - few) * 1024 / 7900
    NUMBERS.append(
        f"summary: {few:.1f} MiB for 3,000 reports of 100 hosts, {often:.1f} for 16,000, {each:.2f} KiB for each host"
    )
    assert often < few + 8
    assert each < 2


@contextmanager
def waiting_summary(**options: Any) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A summary that has two processes and waits for more on its standard input; and their PIDs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kvmprobe", "summary", "--jobs", "2", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        start_new_session=True,
        **options,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(lines(equal_hosts(1)) * 1000)
        process.stdin.flush()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        ends = time.monotonic() + DEADLINE_S
        while len(pids := [int(pid) for pid in children.read_text().split()]) < 2:
            assert time.monotonic() < ends
            time.sleep(0.02)
        yield process, pids
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # as it should be
        process.communicate()


@pytest.fixture
def reading() -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    with waiting_summary() as found:
        yield found


def wait_until_gone(pids: list[int]) -> None:
    ends = time.monotonic() + DEADLINE_S
    while left := [pid for pid in pids if state(pid) not in "ZX"]:
        assert time.monotonic() < ends, left
        time.sleep(0.05)


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def test_a_process_that_dies_is_one_clear_problem(reading: Any) -> None:
    process, pids = reading
    os.kill(pids[0], signal.SIGKILL)
    _, errors = process.communicate(lines(equal_hosts(1)) * 1000, timeout=DEADLINE_S)
    assert process.returncode == 3
    problem, hint = errors.splitlines()
    assert problem == "kvmprobe: a process that reads the reports died or was killed"
    assert "--jobs 1" in hint
    wait_until_gone(pids)


@pytest.mark.parametrize("to_group", [False, True], ids=["process", "group"])
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_all_processes_with_one_line(reading: Any, signum: int, status: int, to_group: bool) -> None:
    """The terminal and systemd send it to the whole group."""
    process, pids = reading
    (os.killpg if to_group else os.kill)(process.pid, signum)
    process.wait(DEADLINE_S)
    assert process.returncode == status
    wait_until_gone(pids)
    assert len(process.stderr.read().splitlines()) == 1


def test_no_process_survives_the_death_of_its_parent(reading: Any) -> None:
    process, pids = reading
    process.kill()
    process.wait(DEADLINE_S)
    wait_until_gone(pids)


def test_with_nohup_a_hangup_ends_no_process() -> None:
    with waiting_summary(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as (process, pids):
        os.killpg(process.pid, signal.SIGHUP)
        out, errors = process.communicate(lines(equal_hosts(3)), timeout=DEADLINE_S)
        assert (process.returncode, errors) == (0, "")
        assert out.endswith("CONFIRMED: 3 confirmed\n")
        wait_until_gone(pids)
