"""The files that `kvmprobe summary` reads: all kinds of them, damaged ones, and devices that it does not open."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvmprobe.summary.fleet import NAMED
from tests.helpers.counted import NUMBERS
from tests.helpers.fleet_reports import equal_hosts, host, lines, write_reports
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe
from tests.helpers.stored_files import BAD, changed
from tests.helpers.summaries import counts, summary


def test_every_kind_of_file_gives_the_same_counts(tmp_path: Path) -> None:
    reports = [*equal_hosts(5), host("failed", "matrix/bookworm/svmdis")]
    (tmp_path / "folder/below").mkdir(parents=True)
    write_reports(tmp_path / "folder/below", reports)
    (tmp_path / "folder/below/summary.json").write_text("[]")  # of `kvmprobe lab matrix`
    (tmp_path / "folder/notes.txt").write_text("not a report")
    one_a_line = lines(reports)
    indented = "\n".join(json.dumps(report, indent=2) for report in reports)
    (tmp_path / "lines").write_text(one_a_line)
    (tmp_path / "indented.json").write_text(indented)
    (tmp_path / "lines.gz").write_bytes(gzip.compress(one_a_line.encode()))
    want = {"confirmed": 5, "failed": 1}
    for name in ("folder", "lines", "indented.json", "lines.gz"):
        assert counts(summary(tmp_path / name)[0], "status") == want, name
    for text in (one_a_line, indented):
        assert counts(summary("-", input=text)[0], "status") == want
    read, write_end = os.pipe()
    with os.fdopen(write_end, "w") as file:
        file.write(lines(reports[:1]))
    try:
        assert counts(summary(f"/dev/fd/{read}", pass_fds=[read])[0], "status") == {"confirmed": 1}
    finally:
        os.close(read)
    assert "1 other file" not in kvmprobe("summary", tmp_path / "lines").stdout
    assert "2 other files in the folders ignored" in kvmprobe("summary", tmp_path / "folder").stdout


def test_a_damaged_file_hides_no_other(tmp_path: Path) -> None:
    write_reports(tmp_path, equal_hosts(3))
    for name, content in {**BAD, "too large": b"x" * (17 << 20)}.items():
        (tmp_path / f"bad {name}.json").write_bytes(content)
    (tmp_path / "bad link.json").symlink_to("nowhere")
    data, status = summary("--judge", tmp_path)
    assert (status, counts(data, "status")) == (65, {"confirmed": 3})
    assert summary(tmp_path)[0]["bad"] == data["bad"]
    assert [one["file"] for one in data["bad"]] == sorted(map(str, tmp_path.glob("bad *.json")))
    done = kvmprobe("summary", "-v", tmp_path)
    assert done.returncode == 65
    assert not re.search("^kvmprobe", done.stdout, re.MULTILINE)
    assert "bad truncated.json: not JSON: " in done.stdout


def test_a_damaged_line_hides_no_other(tmp_path: Path) -> None:
    good = equal_hosts(4)
    file = tmp_path / "a.jsonl"
    file.write_text(
        lines(good[:2]) + '{"schema": "kvmprobe.rep\n' + lines(good[2:3]) + "{}\n\n" + lines(good[3:]) + '{"cut'
    )
    data, status = summary(file)
    assert (status, data["counts"]["hosts"]) == (65, 4)
    assert [one["line"] for one in data["bad"]] == [3, 5, 8]


def test_a_truncated_stream_gives_the_reports_before_its_end(tmp_path: Path) -> None:
    packed = gzip.compress(lines(equal_hosts(200)).encode(), compresslevel=1)
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(packed[: len(packed) // 2])
    data, status = summary(file)
    assert status == 65
    assert 20 < data["counts"]["hosts"] < 180
    assert [one["line"] for one in data["bad"]] == [None, data["counts"]["hosts"] + 1]
    assert "cannot be read to its end" in data["bad"][0]["error"]


@pytest.mark.parametrize("command", ["summary", "judge"])
def test_a_read_without_data_is_not_the_end_of_a_stream(command: str) -> None:
    """Another process may have made standard input non-blocking."""
    text = lines(equal_hosts(1)).encode()
    read, write_end = os.pipe()
    os.set_blocking(read, False)
    with subprocess.Popen(
        [sys.executable, "-m", "kvmprobe", command, "--json", "-"], stdin=read, stdout=subprocess.PIPE, cwd=PROJECT
    ) as process:
        os.close(read)
        with os.fdopen(write_end, "wb", buffering=0) as pipe:
            for part in (text[:100], text[100:5000], text[5000:]):
                time.sleep(0.3)
                pipe.write(part)
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert json.loads(out)["schema"] == f"kvmprobe.{'summary' if command == 'summary' else 'report'}/1"


def test_a_device_among_reports_is_not_opened(tmp_path: Path) -> None:
    """Opening some devices starts them: a watchdog, for example."""
    write_reports(tmp_path, equal_hosts(1))
    if shutil.which("strace") is None or os.geteuid() != 0:
        pytest.skip("needs strace, and root to make a device")
    os.mknod(tmp_path / "x.json", stat.S_IFCHR | 0o666, os.makedev(1, 5))  # that of /dev/zero
    os.mknod(tmp_path / "y.jsonl", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    log = tmp_path / "calls"
    command = ["strace", "-f", "-y", "-qq", "-e", "trace=open,openat", "-o", str(log)]
    command += [sys.executable, "-m", "kvmprobe", "summary", "--jobs", "1", str(tmp_path), str(tmp_path / "x.json")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 65, done.stderr
    calls = [line for line in log.read_text().splitlines() if "/x.json" in line or "/y.jsonl" in line]
    assert calls
    assert all("O_PATH" in call for call in calls)


STUCK = ("/proc/kmsg", "/proc/self/environ", "/sys/kernel/mm/transparent_hugepage/enabled", "/dev/zero", "/etc/passwd")


@pytest.mark.parametrize("suffix", ["json", "jsonl", "json.gz"])
@pytest.mark.parametrize("target", STUCK)
def test_a_link_in_a_folder_is_not_followed(target: str, suffix: str, tmp_path: Path) -> None:
    """/proc/kmsg is a regular file by its mode, and a read of it waits for the next line of the kernel's log."""
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        write_reports(tmp_path / folder, equal_hosts(2))
        (tmp_path / folder / f"evil.{suffix}").symlink_to(target)
    data, status = summary(tmp_path / "new")
    assert (status, counts(data, "status")) == (65, {"confirmed": 2})
    assert [one["error"] for one in data["bad"]] == ["is a link, and links in a folder are not followed"]
    done = kvmprobe("compare", tmp_path / "old", tmp_path / "new")
    if suffix == "json":
        assert (done.returncode, done.stderr.count("is a link, and links in a folder")) == (65, 2), done.stderr
    else:
        assert done.returncode == 0


def test_a_link_to_a_report_of_the_same_folder_is_ignored(tmp_path: Path) -> None:
    """As in a folder that Kubernetes mounts from a ConfigMap."""
    (tmp_path / "..data").mkdir()
    write_reports(tmp_path / "..data", equal_hosts(2))
    for name in ("0.json", "1.json"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    (tmp_path / "text").write_text("not a report")
    (tmp_path / "2.json").symlink_to("text")
    data, status = summary(tmp_path)
    assert (status, counts(data, "status")) == (65, {"confirmed": 2})
    assert [one["file"] for one in data["bad"]] == [str(tmp_path / "2.json")]
    assert "3 other files in the folders ignored" in kvmprobe("summary", tmp_path).stdout


@pytest.mark.parametrize("target", STUCK[:-1])
@pytest.mark.parametrize("command", ["judge", "summary", "compare"])
def test_a_named_link_to_a_file_without_end_is_refused(command: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "evil.json").symlink_to(target)
    files = [tmp_path / "evil.json"] * (2 if command == "compare" else 1)
    done = kvmprobe(command, *files)
    assert (done.returncode, done.stdout) == (65, "")
    assert re.search(r"evil\.json: is (empty|not a file)", done.stderr)


@pytest.mark.parametrize("content", [b"{}\n", b'{"a":0}\n', b"[" + b"{}," * 999 + b"{}]\n{\n"])
def test_a_small_file_that_unpacks_to_a_lot_takes_seconds(content: bytes, tmp_path: Path) -> None:
    """300 KB of .gz had 100 million records, and each was parsed and remembered."""
    write_reports(tmp_path, equal_hosts(2))
    with gzip.open(tmp_path / "evil.json.gz", "wb", compresslevel=9) as file:
        block = content * (10_000_000 // len(content))
        for _ in range(30):
            file.write(block)
    assert (tmp_path / "evil.json.gz").stat().st_size < 3_000_000
    started = time.monotonic()
    data, status = summary(tmp_path)
    NUMBERS.append(f"summary: {time.monotonic() - started:.1f} s for 300 MB of {content[:8]!r} in a small .gz")
    assert (status, counts(data, "status")) == (65, {"confirmed": 2})
    assert data["bad"]
    assert time.monotonic() - started < DEADLINE_S


def test_millions_of_values_cost_little_memory(tmp_path: Path) -> None:
    """16 MiB of "{}," are 400 MB as Python's objects, in each process."""
    (tmp_path / "evil.json").write_bytes(b"[" + b"{}," * 5_000_000 + b"{}]")
    write_reports(tmp_path, equal_hosts(2))
    for command in (["summary", "--jobs", "1", tmp_path], ["judge", tmp_path / "evil.json"]):
        code = (
            "import resource; resource.setrlimit(resource.RLIMIT_AS, (300 << 20,) * 2); from kvmprobe.cli import main"
        )
        done = subprocess.run(
            [sys.executable, "-c", f"{code}; main.entry()", *map(str, command)],
            cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 65, done.stderr
        assert "values: not a report" in done.stdout + done.stderr


NO_EVIDENCE = [
    ("evidence", "snapshots"), ("evidence", "uevents"), ("evidence", "guest"), ("evidence", "ioctls", "KVM_CREATE_VM"),
]  # fmt: skip


@pytest.mark.parametrize("path", NO_EVIDENCE, ids=lambda path: path[-1])
def test_a_stored_verdict_without_its_evidence_does_not_count(path: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(changed(*path, value=...))
    assert kvmprobe("judge", tmp_path / "a.json").returncode == 65
    done = kvmprobe("summary", tmp_path)
    assert (done.returncode, done.stdout) == (65, "")
    assert f"{path[-1]} is missing" in done.stderr


@pytest.mark.parametrize("name", ["a\nkvmprobe: forged.json", "a\rforged.json", "a\x1b[31mforged.json"])
def test_the_name_of_a_file_forges_no_line(name: str, tmp_path: Path) -> None:
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder in folders:
        folder.mkdir()
        write_reports(folder, equal_hosts(2))
        (folder / name).write_text("{}")
    outputs = [
        kvmprobe("judge", folders[0] / name),
        kvmprobe("judge", "--format", "nagios", folders[0] / name),
        kvmprobe("summary", folders[0]),
        kvmprobe("summary", "-q", folders[0]),
        kvmprobe("compare", *folders),
        kvmprobe("compare", "-v", *folders),
        kvmprobe("summary", folders[0] / "none" / name),
    ]
    for done in outputs:
        assert done.returncode in (3, 64, 65)
        for line in (done.stdout + done.stderr).splitlines():
            assert line.isprintable()
            assert not line.startswith(("kvmprobe: forged", "forged"))
    assert len(outputs[1].stdout.splitlines()) == 2


def test_a_link_to_a_folder_is_ignored_and_counted(tmp_path: Path) -> None:
    write_reports(tmp_path, equal_hosts(1))
    (tmp_path / "again").symlink_to(".")
    assert summary(tmp_path)[0]["counts"]["hosts"] == 1
    assert "1 other file" in kvmprobe("summary", tmp_path).stdout


def test_a_record_without_end_is_skipped(tmp_path: Path) -> None:
    """Also in a stream, whose end is not known."""
    good = equal_hosts(2)
    text = lines(good[:1]) + "{" + "x" * (18 << 20) + "\n" + lines(good[1:])
    data, _ = summary("-", input=text)
    assert data["counts"]["hosts"] == 2
    assert data["bad"] == [{"file": "standard input", "line": 2, "error": "larger than 16 MiB: not a report"}]


def test_all_damaged_records_are_counted_and_some_listed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(equal_hosts(1)) + "{}\n" * 5000)
    data, _ = summary(tmp_path)
    assert data["reports"]["bad"] == 5000
    assert len(data["bad"]) == NAMED
    done = kvmprobe("summary", tmp_path)
    assert "and 4,980 more" in done.stdout
    assert len(done.stdout) + len(done.stderr) < 5000


def test_a_pipe_in_a_folder_is_not_read(tmp_path: Path) -> None:
    write_reports(tmp_path, equal_hosts(1))
    for name in ("p.json", "p.jsonl"):
        os.mkfifo(tmp_path / name)
    data, _ = summary(tmp_path)
    assert [one["error"] for one in data["bad"]] == ["is not a file"] * 2
