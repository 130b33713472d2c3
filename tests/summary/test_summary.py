"""`kvmprobe summary`: counts, odd ones, files of every kind, and what it costs and survives."""

from __future__ import annotations

import collections
import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvmprobe.formats import html
from kvmprobe.summary import fleet_page, summary_text
from kvmprobe.summary.fleet import NAMED, Fleet, natural
from kvmprobe.summary.fleet_summary import Summary
from kvmprobe.summary.report_records import Reader
from tests.helpers.counted import NUMBERS
from tests.helpers.fleet import crowd, host, lines, write
from tests.helpers.recorded_evidence import EVIDENCE, RECORDED
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe
from tests.helpers.stored_files import ANYTHING, BAD, REPORTS, changed, paths

SCHEMA = json.loads((PROJECT / "kvmprobe/model/summary.schema.json").read_text())


def summary(*arguments: str | Path, **options: Any) -> tuple[Any, int]:
    """The summary in JSON, held to its schema, and the exit status."""
    done = kvmprobe("summary", "--json", *arguments, **options)
    data = json.loads(done.stdout)
    jsonschema.validate(data, SCHEMA)
    return data, done.returncode


def count(data: Any, field: str) -> dict[str, int]:
    return {value["value"]: value["hosts"] for value in data["counts"][field]}


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_counts_all_that_was_recorded() -> None:
    reports = [json.loads(path.read_text()) for path in RECORDED]
    data, status = summary("--all", EVIDENCE)
    assert status == 1
    assert data["reports"] == {"read": len(RECORDED), "older": 0, "judged_anew": 0, "bad": 0}
    for field, value in (
        ("status", lambda report: report["verdict"]["status"]),
        ("reason", lambda report: report["verdict"]["reason"]),
        ("kernel", lambda report: report["evidence"]["kernel"]["release"]),
        ("version", lambda report: report["tool"]["version"]),
    ):
        assert count(data, field) == collections.Counter(map(value, reports))
    assert list(count(data, "status").values()) == sorted(count(data, "status").values(), reverse=True)


def test_what_is_stored_is_what_is_judged() -> None:
    """The stored verdicts of this version and those judged anew are the same, in all that is shown."""
    stored, _ = summary("--all", "-v", EVIDENCE)
    anew, _ = summary("--all", "-v", "--judge", EVIDENCE)
    assert anew["reports"].pop("judged_anew") == len(RECORDED)
    assert stored["reports"].pop("judged_anew") == 0
    assert anew == stored


def test_reports_of_another_version_are_judged_anew(tmp_path: Path) -> None:
    report = host("a", version="0.0.9")
    report["verdict"] = {"status": "failed", "reason": "cpu-lacks-svm", "summary": "it said", "hint": ""}
    del report["checks"]
    bare = host("b", "matrix/bookworm/svmdis")["evidence"]
    data, _ = summary("-v", write(tmp_path, [report, bare]))
    assert [(one["host"], one["reason"], one["version"]) for one in data["hosts"]] == [
        ("a", "svme-set-by-create-vm", "0.0.9"),
        ("b", "firmware-disabled", "unknown"),
    ]
    assert data["reports"]["judged_anew"] == 2


def test_judge_finds_a_verdict_that_is_untrue(tmp_path: Path) -> None:
    report = host("a", "matrix/bookworm/svmdis")
    report["verdict"] = host("b")["verdict"]
    write(tmp_path, [report])
    assert count(summary(tmp_path)[0], "status") == {"confirmed": 1}
    assert count(summary("--judge", tmp_path)[0], "status") == {"failed": 1}


@pytest.fixture
def mixed(tmp_path: Path) -> list[Path]:
    """Files of every kind, 300 hosts in all, and one that is damaged."""
    reports = [host(f"h{index}", taken_at=f"2026-11-{index % 28 + 1:02}T00:00:00Z") for index in range(300)]
    reports[7] = host("h7", "matrix/trixie/svmdis")
    (tmp_path / "many").mkdir()
    write(tmp_path / "many", reports[:150])
    (tmp_path / "lines.jsonl").write_text(lines(reports[150:200]))
    with gzip.open(tmp_path / "packed.ndjson.gz", "wt") as file:
        file.write(lines(reports[200:250]))
    (tmp_path / "one-after-the-other").write_text("".join(json.dumps(one, indent=1) + "\n" for one in reports[250:]))
    (tmp_path / "older.json").write_text(
        json.dumps(host("h5", "matrix/trixie/svmdis", taken_at="2026-10-01T00:00:00Z"))
    )
    (tmp_path / "bad.json").write_text('{"schema": "kvmprobe.report/1"')
    return sorted(tmp_path.iterdir())


def test_nothing_depends_on_the_order_of_files(mixed: list[Path]) -> None:
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
    assert data["reports"] == {"read": 301, "older": 1, "judged_anew": 0, "bad": 1}
    assert data["counts"]["hosts"] == 300
    assert [one["hosts"] for one in data["odd"]] == []


def test_every_kind_of_file_says_the_same(tmp_path: Path) -> None:
    reports = [*crowd(5), host("odd", "matrix/bookworm/svmdis")]
    (tmp_path / "folder/below").mkdir(parents=True)
    write(tmp_path / "folder/below", reports)
    (tmp_path / "folder/below/summary.json").write_text("[]")  # of a lab
    (tmp_path / "folder/notes.txt").write_text("not a report")
    one_a_line = lines(reports)
    indented = "\n".join(json.dumps(report, indent=2) for report in reports)
    (tmp_path / "lines").write_text(one_a_line)
    (tmp_path / "indented.json").write_text(indented)
    (tmp_path / "lines.gz").write_bytes(gzip.compress(one_a_line.encode()))
    want = {"confirmed": 5, "failed": 1}
    for name in ("folder", "lines", "indented.json", "lines.gz"):
        assert count(summary(tmp_path / name)[0], "status") == want, name
    for text in (one_a_line, indented):
        assert count(summary("-", input=text)[0], "status") == want
    read, write_end = os.pipe()
    with os.fdopen(write_end, "w") as file:
        file.write(lines(reports[:1]))
    try:
        assert count(summary(f"/dev/fd/{read}", pass_fds=[read])[0], "status") == {"confirmed": 1}
    finally:
        os.close(read)
    assert "1 other file" not in kvmprobe("summary", tmp_path / "lines").stdout
    assert "2 other files in the folders left alone" in kvmprobe("summary", tmp_path / "folder").stdout


def test_the_latest_report_of_a_host_counts(tmp_path: Path) -> None:
    old = host("a", "matrix/bookworm/svmdis", taken_at="2026-11-01T00:00:00Z", model_name="EPYC 1")
    new = host("a", taken_at="2026-11-02T00:00:00Z", model_name="EPYC 1")
    write(tmp_path, [new, old])
    data, status = summary(tmp_path)
    assert (status, count(data, "status"), data["reports"]["older"]) == (0, {"confirmed": 1}, 1)
    assert data["several_machines"] == []
    assert data["failed_elsewhere"] == ["a"]  # mended, or another machine of that name: said, also in the last line
    assert kvmprobe("summary", "-q", tmp_path).stdout == "CONFIRMED: 1 confirmed, 1 failed in a report left out\n"
    data, status = summary("--all", tmp_path)
    assert data["failed_elsewhere"] == []
    assert (status, count(data, "status"), data["reports"]["older"]) == (1, {"confirmed": 1, "failed": 1}, 0)


def test_of_two_reports_of_one_time_the_failed_one_counts(tmp_path: Path) -> None:
    for order in (1, -1):
        names = ("matrix/bookworm/svmdis", "matrix/bookworm/epyc")[::order]
        write(tmp_path, [host("a", name, taken_at="2026-11-01T00:00:00Z", model_name="EPYC 1") for name in names])
        data, status = summary(tmp_path)
        assert (status, count(data, "status")) == (1, {"failed": 1})


def test_one_name_with_different_cpus_is_told(tmp_path: Path) -> None:
    write(tmp_path, [host("localhost", model_name=f"EPYC {index}") for index in range(3)])
    assert summary(tmp_path)[0]["several_machines"] == ["localhost"]
    done = kvmprobe("summary", tmp_path)
    assert "2 left out" in done.stdout
    assert "One name, different CPU models: 1 name\n  localhost\n" in done.stdout


def test_a_damaged_file_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path, crowd(3))
    for name, content in {**BAD, "too large": b"x" * (17 << 20)}.items():
        (tmp_path / f"bad {name}.json").write_bytes(content)
    (tmp_path / "bad link.json").symlink_to("nowhere")
    # A report that this version has stored is not held to the whole schema: it is where it is judged anew.
    data, status = summary("--judge", tmp_path)
    assert (status, count(data, "status")) == (65, {"confirmed": 3})
    assert [one["file"] for one in data["bad"]] == sorted(map(str, tmp_path.glob("bad *.json")))
    done = kvmprobe("summary", "-v", tmp_path)
    assert done.returncode == 65
    assert not re.search("^kvmprobe", done.stdout, re.MULTILINE)
    assert "bad truncated.json: not JSON: " in done.stdout


def test_a_damaged_line_hides_no_other(tmp_path: Path) -> None:
    good = crowd(4)
    file = tmp_path / "a.jsonl"
    file.write_text(
        lines(good[:2]) + '{"schema": "kvmprobe.rep\n' + lines(good[2:3]) + "{}\n\n" + lines(good[3:]) + '{"cut'
    )
    data, status = summary(file)
    assert (status, data["counts"]["hosts"]) == (65, 4)
    assert [one["line"] for one in data["bad"]] == [3, 5, 8]


def test_a_stream_that_is_cut_gives_what_came_before(tmp_path: Path) -> None:
    packed = gzip.compress(lines(crowd(200)).encode(), compresslevel=1)
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(packed[: len(packed) // 2])
    data, status = summary(file)
    assert status == 65
    assert 20 < data["counts"]["hosts"] < 180
    assert [one["line"] for one in data["bad"]] == [None, data["counts"]["hosts"] + 1]
    assert "cannot be read to its end" in data["bad"][0]["error"]


@pytest.mark.parametrize("command", ["summary", "judge"])
def test_what_has_not_come_yet_is_not_the_end(command: str) -> None:
    """Standard input that somebody else has made non-blocking."""
    text = lines(crowd(1)).encode()
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


def test_a_device_among_reports_is_not_even_opened(tmp_path: Path) -> None:
    """Some are set going by that, a watchdog is."""
    write(tmp_path, crowd(1))
    (tmp_path / "x.json").symlink_to("/dev/zero")
    if shutil.which("strace") is None:
        pytest.skip("no strace here")
    log = tmp_path / "calls"
    command = ["strace", "-f", "-y", "-qq", "-e", "trace=open,openat", "-o", str(log)]
    command += [sys.executable, "-m", "kvmprobe", "summary", "--jobs", "1", str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 65, done.stderr
    calls = [line for line in log.read_text().splitlines() if "/dev/zero" in line]
    assert calls
    assert all("O_PATH" in call for call in calls)


def test_a_link_to_a_folder_is_left_alone_and_counted(tmp_path: Path) -> None:
    write(tmp_path, crowd(1))
    (tmp_path / "again").symlink_to(".")
    assert summary(tmp_path)[0]["counts"]["hosts"] == 1
    assert "1 other file" in kvmprobe("summary", tmp_path).stdout


def test_a_record_without_end_is_left_out(tmp_path: Path) -> None:
    """Also in a stream, whose end nobody has seen."""
    good = crowd(2)
    text = lines(good[:1]) + "{" + "x" * (18 << 20) + "\n" + lines(good[1:])
    data, _ = summary("-", input=text)
    assert data["counts"]["hosts"] == 2
    assert data["bad"] == [{"file": "standard input", "line": 2, "error": "larger than 16 MiB: not a report"}]


def test_many_damaged_files_are_counted_and_some_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(crowd(1)) + "{}\n" * 5000)
    data, _ = summary(tmp_path)
    assert data["reports"]["bad"] == 5000
    assert len(data["bad"]) == NAMED
    done = kvmprobe("summary", tmp_path)
    assert "and 4,980 more" in done.stdout
    assert len(done.stdout) + len(done.stderr) < 5000


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, crowd(1))
    for name in ("p.json", "p.jsonl"):
        os.mkfifo(tmp_path / name)
    data, _ = summary(tmp_path)
    assert [one["error"] for one in data["bad"]] == ["is not a file"] * 2


@pytest.mark.parametrize(
    ("likes", "extra", "status"),
    [
        ((), "", 65),
        (("matrix/bookworm/epyc",), "", 0),
        (("matrix/bookworm/epyc", "matrix/bookworm/intel"), "", 0),
        (("matrix/bookworm/intel",), "", 4),
        (("matrix/bookworm/epyc", "matrix/bookworm/no-msr-device"), "", 3),
        (("matrix/bookworm/epyc", "matrix/bookworm/no-msr-device", "matrix/bookworm/svmdis"), "", 1),
        (("matrix/bookworm/epyc",), "{}", 65),
        (("matrix/bookworm/no-msr-device",), "{}", 65),
        (("matrix/bookworm/svmdis",), "{}", 1),
    ],
)
def test_exit_status(likes: tuple[str, ...], extra: str, status: int, tmp_path: Path) -> None:
    write(tmp_path, [host(f"h{index}", like) for index, like in enumerate(likes)])
    if extra:
        (tmp_path / "bad.json").write_text(extra)
    assert kvmprobe("summary", "-q", tmp_path).returncode == status


def test_wrong_arguments(tmp_path: Path) -> None:
    write(tmp_path, crowd(1))
    for arguments in (
        (),
        (tmp_path / "no such file",),
        ("-", "-"),
        (tmp_path, "--only", "broken"),
        (tmp_path, "--max-age", "0d"),
        (tmp_path, "--max-age", "soon"),
        (tmp_path, "--max-age", "26"),  # hours were meant, or seconds?
        (tmp_path, "--jobs", "0"),
        (tmp_path, "--format", "ktap"),
        (tmp_path, "-o", tmp_path),
    ):
        done = kvmprobe("summary", *arguments, stdin=subprocess.DEVNULL)
        assert done.returncode == 64, arguments
        assert "kvmprobe" in done.stderr
    (tmp_path / "names").write_bytes(b"9" * 5000 + b"\n")  # more digits than int() takes
    assert kvmprobe("summary", tmp_path, "--expect", tmp_path / "names").returncode == 3
    for names in (b"", b"# none\n", b"\xff\xfe"):
        (tmp_path / "names").write_bytes(names)
        assert kvmprobe("summary", tmp_path, "--expect", tmp_path / "names").returncode == 65
    assert kvmprobe("summary", tmp_path, "--expect", tmp_path / "none").returncode == 65


def test_hosts_without_a_report_or_with_an_old_one(tmp_path: Path) -> None:
    now = time.time()
    times = {"old": -5 * 86400, "new": -60, "ahead": 86400}
    write(
        tmp_path,
        [
            host(name, taken_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + seconds)))
            for name, seconds in times.items()
        ],
    )
    names = tmp_path / "names"
    names.write_text("# all of them\nold\nnew  # yes\n\nnode10\nnode9\n")
    data, status = summary(tmp_path, "--max-age", "3d", "--expect", names)
    assert (status, data["missing"], [one["host"] for one in data["stale"]]) == (
        3,
        ["node9", "node10"],
        ["ahead", "old"],
    )
    assert summary(tmp_path, "--max-age", "9d")[0]["stale"][0]["host"] == "ahead"
    text = kvmprobe("summary", tmp_path, "--max-age", "3d", "--expect", names).stdout
    assert "No report of 2 hosts\n  node9, node10\n" in text
    assert text.endswith("INCONCLUSIVE: 3 confirmed, 2 without a report, 2 too old\n")
    assert summary(tmp_path)[1] == 0  # whatever the time is


def test_only_lists_hosts(tmp_path: Path) -> None:
    write(tmp_path, [*crowd(3), host("x10", "matrix/bookworm/svmdis"), host("x9", "matrix/trixie/not-loaded")])
    assert kvmprobe("summary", tmp_path, "-q", "--only", "failed").stdout == "x9\nx10\n"
    done = kvmprobe("summary", tmp_path, "--only", "firmware-disabled", "--only", "inconclusive")
    assert re.fullmatch(r"x10  FAILED +firmware-disabled: VM_CR = .*\n", done.stdout)
    assert done.returncode == 1
    assert [one["host"] for one in summary(tmp_path, "--only", "failed")[0]["hosts"]] == ["x9", "x10"]
    assert summary(tmp_path)[0]["hosts"] == []


def odd(tmp_path: Path, reports: list[Any]) -> list[tuple[list[str], list[tuple[str, str, str, int]]]]:
    (tmp_path / "fleet.jsonl").write_text(lines(reports))
    found = summary(tmp_path / "fleet.jsonl")[0]["odd"]
    return [(one["hosts"], [tuple(difference.values()) for difference in one["differences"]]) for one in found]


def test_the_odd_ones(tmp_path: Path) -> None:
    reports = crowd(30)
    reports[3] = host("node-3", microcode="0x1000064")
    reports[4] = host("node-4", parameters={"nested": "0"})
    reports[15] = host("node-15", microcode="0x1000064")
    reports[9] = host("node-9", "matrix/bookworm/svme-not-set")
    assert odd(tmp_path, reports) == [
        (["node-9"], [("verdict", "failed svme-not-set", "confirmed", 29), ("warnings", "guest", "none", 29)]),
        (["node-4"], [("kvm_amd.nested", "0", "1", 29)]),
        (["node-3", "node-15"], [("microcode", "0x1000064", "0x1000065", 28)]),
    ]


def test_what_is_not_odd(tmp_path: Path) -> None:
    two = [host("a"), host("b", microcode="0x9")]
    assert odd(tmp_path, two) == []  # who is odd, of two?
    halves = [*crowd(10), *(host(f"m{index}", microcode="0x9") for index in range(10))]
    assert odd(tmp_path, halves) == []
    kernels = [*crowd(10), host("t", "matrix/trixie/epyc")]
    assert odd(tmp_path, kernels) == []  # alone with its kernel
    confirmed = [*crowd(10), host("v", "matrix/bookworm/another-vm")]
    assert odd(tmp_path, confirmed) == []  # VMs are alive there: as good as any
    unknown = [*crowd(10), host("u", microcode=None)]
    assert odd(tmp_path, unknown) == []


def test_names_sort_as_people_sort_them() -> None:
    names = ["node10", "node9", "a", "node09b", "10", "9", "node"]
    assert sorted(names, key=natural) == ["9", "10", "a", "node", "node09b", "node9", "node10"]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = "\x1b]0;owned\x07\nFAILED\u202e\ud800"
    report = host(name, microcode=name, model_name=name)
    report["evidence"]["kernel"]["release"] = name
    report["verdict"]["summary"] = report["verdict"]["hint"] = name
    write(tmp_path, [report, *(host(f"n{index}", model_name=name, microcode="0x1") for index in range(3))])
    for arguments in ((), ("-v",), ("-v", "--only", "confirmed"), ("-q", "--only", "confirmed"), ("--json", "-v")):
        out = kvmprobe("summary", *arguments, tmp_path).stdout
        assert out.isascii() or "\u202e" not in out
        assert all(line.isprintable() for line in out.splitlines())
        assert "FAILED\n" not in out
    long = host("x" * 300)
    write(tmp_path, [long])
    assert "host.name is longer than 255 characters" in kvmprobe("summary", tmp_path).stdout


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    place=st.sampled_from([(report, path) for report in REPORTS for path in paths(report) if path]),
    value=st.just(...)
    | st.sampled_from([None, "", "0x0", "0-7", {"error": 7}, -1, True, [], {}, "x" * 5000])
    | ANYTHING,
)
def test_whatever_a_stored_report_says(place: tuple[Any, Any], value: Any) -> None:
    """It is counted, or named as damaged; and what is counted can be shown in every format."""
    report, path = place
    block = changed(*path, value=value, report=report)
    found, bad, _ = Reader(anew=False, details=True)((("file", 1, True), block))
    assert len(found) + len(bad) == 1
    assert all("\n" not in why for _, _, why in bad)
    fleet = Fleet()
    for file, line, digest in found:
        fleet.add(file, line, digest)
    result = Summary(fleet)
    jsonschema.validate(json.loads(json.dumps(result.data(True))), SCHEMA)
    assert summary_text.render(result, 1)
    assert fleet_page.render(result)


def test_a_page_keeps_those_worth_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_page, "HOSTS", 20)
    reports = [host(f"n{index}") for index in range(200)]
    for index in (3, 100, 199):
        reports[index] = host(f"n{index}", "matrix/bookworm/svmdis")
    reports[50] = host("n50", microcode="0x9")
    found, _, _ = Reader(False, True)((("f", 1, True), lines(reports).encode()))
    fleet = Fleet()
    for file, line, digest in found:
        fleet.add(file, line, digest)
    result = Summary(fleet)
    chosen = [one.name for one in fleet_page.choose(result.hosts, {one for kind in result.odd for one in kind.hosts})]
    assert len(chosen) == 20
    assert {"n3", "n50", "n100", "n199"} < set(chosen)
    assert chosen == sorted(chosen, key=natural)
    assert max(int(name[1:]) for name in chosen if name not in ("n199",)) > 150  # a sample of all, not the first
    text = fleet_page.render(result)
    assert "20 of 200 hosts are in the table" in text


def test_hosts_that_failed_are_in_the_page_before_those_not_applicable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_page, "HOSTS", 20)
    reports = [host(f"a{index}", "matrix/bookworm/intel") for index in range(30)]
    reports += [host(f"b{index}", "matrix/bookworm/no-msr-device") for index in range(30)]
    reports.append(host("z", "matrix/bookworm/svmdis"))
    found, _, _ = Reader(False, True)((("f", 1, True), lines(reports).encode()))
    fleet = Fleet()
    for file, line, digest in found:
        fleet.add(file, line, digest)
    chosen = [one.name for one in fleet_page.choose(Summary(fleet).hosts, set())]
    assert [len([name for name in chosen if name[0] == letter]) for letter in "abz"] == [0, 19, 1]


def peak_mib(*arguments: str | Path, feed: list[bytes] | None = None) -> float:
    """The most resident memory of a summary's own process, by its /proc/self/status."""
    code = (
        "import sys; from kvmprobe.cli import parser; parser.run(sys.argv[1:]); import re; "
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "summary", "-q", *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=PROJECT
    ) as process:
        assert process.stdin is not None
        for block in feed or ():
            process.stdin.write(block)
        _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, said
    return int(said.split()[-1]) / 1024


def test_memory_grows_with_hosts_not_with_reports() -> None:
    text = lines([host("@")]).encode()
    few = peak_mib("-", feed=[text.replace(b"@", b"h%d" % (index % 100)) for index in range(3000)])
    said = b'"summary": "'  # each report another one, as with PIDs in it
    often = peak_mib(
        "-",
        feed=[
            text.replace(b"@", b"h%d" % (index % 100)).replace(said, said + b"%d " % index * 50, 1)
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


@pytest.fixture
def reading() -> Any:
    """A summary that has two processes and waits for more on its standard input; and their PIDs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kvmprobe", "summary", "--jobs", "2", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    assert process.stdin is not None
    process.stdin.write(lines(crowd(1)) * 1000)
    process.stdin.flush()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    ends = time.monotonic() + DEADLINE_S
    while len(pids := [int(pid) for pid in children.read_text().split()]) < 2:
        assert time.monotonic() < ends
        time.sleep(0.02)
    yield process, pids
    process.kill()
    process.communicate()


def gone(pids: list[int]) -> bool:
    ends = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends:
        states = [_state(pid) for pid in pids]
        if all(state in "ZX" for state in states):
            return True
        time.sleep(0.05)
    return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def test_a_process_that_dies_is_one_clear_line(reading: Any) -> None:
    process, pids = reading
    os.kill(pids[0], signal.SIGKILL)
    _, said = process.communicate(lines(crowd(1)) * 1000, timeout=DEADLINE_S)
    assert process.returncode == 3
    assert said.startswith("kvmprobe: a process that reads the reports died or was killed\n")
    assert "Traceback" not in said
    assert gone(pids)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_no_process_is_left_behind(reading: Any, signum: int, status: int) -> None:
    process, pids = reading
    process.send_signal(signum)
    process.wait(DEADLINE_S)
    assert process.returncode == status
    assert gone(pids)


def test_from_inside_a_zipapp(tmp_path: Path) -> None:
    """The page's parts come along; nothing but the archive is needed."""
    subprocess.run(
        [sys.executable, "-c", ZIPAPP, str(tmp_path / "kvmprobe.pyz")], check=True, cwd=PROJECT, timeout=DEADLINE_S
    )
    write(tmp_path, crowd(2))
    command = [sys.executable, "-I", str(tmp_path / "kvmprobe.pyz"), "summary", "--format", "html", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == kvmprobe("summary", "--format", "html", tmp_path).stdout


ZIPAPP = """
import pathlib, shutil, sys, tempfile, zipapp
with tempfile.TemporaryDirectory() as temp:
    shutil.copytree("kvmprobe", temp + "/kvmprobe", ignore=shutil.ignore_patterns("__pycache__"))
    zipapp.create_archive(temp, sys.argv[1], main="kvmprobe.cli.main:entry")
"""


def test_output_is_written_whole_and_stdout_stays_empty(tmp_path: Path) -> None:
    write(tmp_path, crowd(2))
    for form in ("text", "json", "html"):
        target = tmp_path / f"out.{form}"
        done = kvmprobe("summary", "--format", form, "-o", target, tmp_path / "0.json")
        assert (done.returncode, done.stdout) == (0, "")
        assert target.read_text()


def test_the_page_of_one_report_is_a_format() -> None:
    report = json.loads(RECORDED[0].read_text())
    done = kvmprobe("judge", RECORDED[0], "--format", "html")
    assert done.stdout == html.render(report)
    assert kvmprobe("compare", RECORDED[0], RECORDED[0], "--format", "html").returncode == 64
