"""Metrics of every recorded report and variant, read by promtool and a strict reader, served by node_exporter."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.formats import render
from kvmprobe.judge import judge
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS
from tests.helpers import monitoring, strict_prometheus
from tests.helpers.judged_reports import all_reports
from tests.helpers.recorded_evidence import EVIDENCE, recorded
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe
from tests.helpers.strict_prometheus import Samples

CONFIRMED = EVIDENCE / "matrix/bookworm/epyc.json"
FAILED = EVIDENCE / "matrix/bookworm/no-svm.json"
RULES = PROJECT / "scripts/prometheus"
AMD = "AuthenticAMD"
EVIL = 'a"b\\c\nkvmprobe_evil 1\r\x00\x1b[31m\ud800\ufffe\u202eÄ→{}# HELP' + "x" * 100_000


@pytest.fixture(scope="session")
def tools() -> Path:
    return monitoring.programs()


def _of(samples: Samples, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric by the values of their labels, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(labels)): value
        for (known, labels), value in samples.items()
        if known == name
    }


@pytest.mark.parametrize("report", all_reports())
def test_every_report(report: Any, tools: Path) -> None:
    text = render(report, "prometheus")
    assert text.isascii()
    samples = strict_prometheus.parse(text)
    checked = subprocess.run(
        [tools / "promtool", "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    verdict = report["verdict"]
    named = (verdict["reason"], report["schema"], verdict["status"], report["tool"]["version"])
    assert _of(samples, "kvmprobe_verdict_info") == {named: 1}
    assert _of(samples, "kvmprobe_verdict") == {(name,): float(name == verdict["status"]) for name in EXIT_STATUS}
    assert _of(samples, "kvmprobe_check_info") == {
        (check["id"], check["status"]): 1 for check in report["checks"]
    }  # both from closed lists
    assert len(samples) < 50 + len(CHECKS)


def test_1024_cpus_have_the_same_series_as_two() -> None:
    evidence = recorded("matrix/bookworm/epyc")
    evidence["cpus"].update(online="0-1023", online_at_end="0-1023")
    for table in (evidence["cpus"]["cpuid"], evidence["cpus"]["cpuinfo"], *(s["cpus"] for s in evidence["snapshots"])):
        table.update({str(cpu): table["1"] for cpu in range(2, 1024)})
    created = evidence["snapshots"][1]["cpus"]
    created.update({cpu: {**created[cpu], "VM_HSAVE_PA": hex(0x1000 * (int(cpu) + 1))} for cpu in created})
    many = strict_prometheus.parse(render(judge(evidence), "prometheus"))
    two = strict_prometheus.parse(render(json.loads(CONFIRMED.read_text()), "prometheus"))
    assert set(many) == set(two)
    assert _of(many, "kvmprobe_cpus") == {("online",): 1024, ("offline",): 0}
    assert _of(many, "kvmprobe_svme_cpus")["created", "set"] == 1024


def test_the_numbers_of_a_confirmed_report() -> None:
    samples = strict_prometheus.parse(render(json.loads(CONFIRMED.read_text()), "prometheus"))
    svme = _of(samples, "kvmprobe_svme_cpus")
    assert {phase: svme[phase, "set"] for phase in ("before", "created", "closed")} == {
        "before": 0,
        "created": 2,
        "closed": 0,
    }
    assert _of(samples, "kvmprobe_svmdis_cpus") == {("set",): 0, ("clear",): 2, ("unknown",): 0}
    assert _of(samples, "kvmprobe_run_duration_seconds") == {(): 1.5514}
    assert _of(samples, "kvmprobe_last_run_timestamp_seconds") == {(): 1795363671}  # 2026-11-22T16:07:51Z
    assert list(_of(samples, "kvmprobe_host_info")) == [
        ("23", "kvmprobe-lab", "TCGTCGTCGTCG", "6.1.0-50-amd64", "0x1000065", "1", "AMD EPYC Processor", "2", AMD)
    ]


def test_a_usable_host_has_a_verdict_of_its_own() -> None:
    report = judge(recorded("matrix/bookworm/user-of-kvm"))
    report["verdict"].update({"status": "usable", "reason": "guest-ran"})
    verdicts = _of(strict_prometheus.parse(render(report, "prometheus")), "kvmprobe_verdict")
    assert {name for (name,), value in verdicts.items() if value} == {"usable"}


def test_what_is_unknown_is_not_zero() -> None:
    """A host without the msr device and /proc/cpuinfo, probed at an unknown time."""
    evidence = recorded("matrix/bookworm/no-msr-device")
    evidence["cpus"].update(cpuinfo={"error": "EACCES"}, offline=None, cpuid={})
    evidence["taken_at"] = "yesterday"
    samples = strict_prometheus.parse(render(judge(evidence), "prometheus"))
    assert _of(samples, "kvmprobe_svme_cpus")["created", "unknown"] == 2
    assert _of(samples, "kvmprobe_svmdis_cpus") == {("set",): 0, ("clear",): 0, ("unknown",): 2}
    assert _of(samples, "kvmprobe_cpus") == {("online",): 2}
    assert _of(samples, "kvmprobe_last_run_timestamp_seconds") == {}
    (host,) = _of(samples, "kvmprobe_host_info")
    assert host == ("", "kvmprobe-lab", "", "6.1.0-50-amd64", "", "", "", "", "")


def test_an_invalid_list_of_offline_cpus_and_cpus_that_differ() -> None:
    evidence = recorded("matrix/bookworm/epyc")
    evidence["cpus"]["offline"] = "3-1"
    evidence["cpus"]["cpuinfo"]["1"]["microcode"] = "0x2"
    samples = strict_prometheus.parse(render(judge(evidence), "prometheus"))
    assert _of(samples, "kvmprobe_cpus") == {("online",): 2}
    assert "mixed" in next(iter(_of(samples, "kvmprobe_host_info")))


def _hostile() -> Any:
    evidence = recorded("matrix/bookworm/epyc")
    evidence["host"]["name"] = evidence["kernel"]["release"] = evidence["cpus"]["offline"] = EVIL
    for info in evidence["cpus"]["cpuinfo"].values():
        info.update(dict.fromkeys(("model_name", "cpu_family", "model", "stepping", "microcode"), EVIL))
    evidence["cpus"]["cpuid"]["0"]["0x0"] = evidence["cpus"]["cpuid"]["1"]["0x0"] = ["0x0", "0x0a225c2c", "0x0", "0xff"]
    return judge(evidence)


def test_hostile_evidence_stays_in_its_label(tools: Path) -> None:
    text = render(_hostile(), "prometheus")
    samples = strict_prometheus.parse(text)
    assert text.isascii()
    assert max(map(len, text.splitlines())) < 20_000
    assert "kvmprobe_evil" not in {name for name, _ in samples}
    (host,) = _of(samples, "kvmprobe_host_info")
    assert host[0].startswith(r'a"b\c\nkvmprobe_evil 1\r\x00\x1b[31m\ud800\ufffe\u202e\xc4->{}# HELPx')
    command = [str(tools / "promtool"), "check", "metrics"]
    subprocess.run(command, input=text.encode(), timeout=DEADLINE_S, check=True)


@pytest.mark.parametrize("options", [("-o",), ("--json", "--also")], ids=["--output", "--also"])
def test_the_file_may_be_read_by_node_exporter(options: tuple[str, ...], tmp_path: Path) -> None:
    """For any umask, and for any mode that the file had before."""
    target = tmp_path / "kvmprobe.prom"
    arguments = [*options, target] if len(options) == 1 else [*options, f"prometheus:{target}"]
    for _ in range(2):
        done = kvmprobe("judge", CONFIRMED, "--format", "prometheus", *arguments, umask=0o077)
        assert done.returncode == 0
        assert stat.S_IMODE(target.stat().st_mode) == 0o644
        target.chmod(0o600)
    assert target.read_text() == render(json.loads(CONFIRMED.read_text()), "prometheus")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_every_locale_gives_the_same_text(locale: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(_hostile()))
    environment = {**os.environ, "LC_ALL": locale, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    output = kvmprobe("judge", path, "--format", "prometheus", env=environment).stdout
    assert output == render(_hostile(), "prometheus")


def test_a_report_of_this_host() -> None:
    done = kvmprobe("check", "--format", "prometheus")
    verdicts = _of(strict_prometheus.parse(done.stdout), "kvmprobe_verdict")
    assert [EXIT_STATUS[name] for (name,), value in verdicts.items() if value] == [done.returncode]


# node_exporter


def _scrape(port: int) -> Samples:
    """The samples that node_exporter serves. It writes numbers in its own way, and sorts labels by name."""
    text = monitoring.get(port, "/metrics")
    return strict_prometheus.parse(text.partition("# HELP promhttp_")[0])  # after it come counters of the server itself


def _ours(samples: Samples) -> Samples:
    return {key: value for key, value in samples.items() if key[0].startswith("kvmprobe_")}


def _errors(samples: Samples) -> float:
    return samples["node_textfile_scrape_error", frozenset()]


def test_node_exporter_serves_what_was_written(tmp_path: Path) -> None:
    target = tmp_path / "kvmprobe.prom"
    with monitoring.node_exporter(tmp_path) as port:
        assert _ours(_scrape(port)) == {}
        for path in (CONFIRMED, FAILED):
            kvmprobe("judge", path, "--also", f"prometheus:{target}", umask=0o077)
            served = _scrape(port)
            assert _ours(served) == strict_prometheus.parse(target.read_text())
            assert _errors(served) == 0
        # Half of a file, as a killed run leaves it
        (tmp_path / ".kvmprobe.prom.1.tmp").write_text(target.read_text()[:700])
        served = _scrape(port)
        assert _ours(served) == strict_prometheus.parse(target.read_text())
        assert _errors(served) == 0
        # node_exporter does report an error where there is one.
        target.write_text(target.read_text()[:700])
        assert _errors(_scrape(port)) == 1


_REWRITE = """
import sys
import time
from pathlib import Path
from kvmprobe.report import output
texts = [Path(name).read_text() for name in sys.argv[2:]]
output.write(texts[1], sys.argv[1], 0o644)
print("begun", flush=True)
while True:
    for text in texts:
        output.write(text, sys.argv[1], 0o644)
"""


def test_every_scrape_reads_a_whole_file(tmp_path: Path) -> None:
    """A process rewrites the file in a loop and is killed again and again."""
    folder, target = tmp_path / "textfile", tmp_path / "textfile/kvmprobe.prom"
    folder.mkdir()
    names = []
    for path in (CONFIRMED, FAILED):
        names.append(str(tmp_path / path.stem))
        kvmprobe("judge", path, "--format", "prometheus", "-o", names[-1])
    wholes = [strict_prometheus.parse(Path(name).read_text()) for name in names]
    kvmprobe("judge", CONFIRMED, "--also", f"prometheus:{target}")
    seen = []
    with monitoring.node_exporter(folder) as port:
        for _ in range(8):
            command = [sys.executable, "-c", _REWRITE, str(target), *names]
            with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE) as rewriting:
                assert rewriting.stdout is not None
                assert rewriting.stdout.readline() == b"begun\n"
                try:
                    for _ in range(40):
                        served = _scrape(port)
                        assert _errors(served) == 0
                        seen.append(wholes.index(_ours(served)))
                finally:
                    rewriting.kill()
    assert set(seen) == {0, 1}, "the file was never rewritten"
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {"kvmprobe.prom"}


# The alert rules


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "--lint=all", "--lint-fatal", "kvmprobe.rules.yml"),
        ("test", "rules", "kvmprobe.rules.test.yml"),
    ],
    ids=["check", "test"],
)
def test_the_rules_pass_promtool(arguments: tuple[str, ...], tools: Path) -> None:
    done = subprocess.run(
        [tools / "promtool", *arguments],
        cwd=RULES,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_itself_fires_an_alert_and_resolves_it(tmp_path: Path) -> None:
    """The whole way: report, node_exporter, Prometheus, alert, with the labels that these add."""
    folder = tmp_path / "textfile"
    folder.mkdir()
    target = f"prometheus:{folder / 'kvmprobe.prom'}"
    rules = RULES / "kvmprobe.rules.yml"
    with monitoring.node_exporter(folder) as scraped, monitoring.prometheus(tmp_path, rules, scraped) as port:
        assert "KvmprobeNeverReported" in _alerts_with(port, "KvmprobeNeverReported", True)  # pending for two hours
        kvmprobe("judge", FAILED, "--also", target)
        alert = _alerts_with(port, "KvmprobeFailed", True)["KvmprobeFailed"]
        assert alert["state"] == "firing"
        instance = f"127.0.0.1:{scraped}"
        assert alert["labels"] == {
            "alertname": "KvmprobeFailed",
            "severity": "critical",
            "job": "node",
            "instance": instance,
            "verdict": "failed",
            "reason": "cpu-lacks-svm",
        }
        assert alert["annotations"]["summary"] == f"{instance}: KVM cannot use SVM (cpu-lacks-svm)"
        kvmprobe("judge", CONFIRMED, "--also", target)
        assert "KvmprobeNeverReported" not in _alerts_with(port, "KvmprobeFailed", False)


def _alerts_with(port: int, name: str, there: bool) -> dict[str, Any]:
    """The alerts by name, as soon as `name` is `there`, or not."""
    ends = time.monotonic() + DEADLINE_S
    while True:
        answer = json.loads(monitoring.get(port, "/api/v1/alerts"))
        alerts = {alert["labels"]["alertname"]: alert for alert in answer["data"]["alerts"]}
        if (name in alerts) == there or time.monotonic() > ends:
            assert (name in alerts) == there
            return alerts
        time.sleep(0.2)


def test_each_alert_has_a_test_that_it_fires_and_one_that_it_does_not() -> None:
    rules, tests = ((RULES / f"kvmprobe.rules{name}.yml").read_text() for name in ("", ".test"))
    cases = re.findall(r"- (?:\{alertname: (\w+), eval_time: [^,}]*(, exp)?|alertname: (\w+)\n)", tests)
    coming = {full or short for short, expected, full in cases if full or expected}
    assert set(re.findall(r"- alert: (\w+)", rules)) == coming
    assert {short for short, expected, _ in cases if short and not expected} == coming


def test_the_rules_use_existing_metrics_labels_and_values() -> None:
    report = json.loads(CONFIRMED.read_text())
    samples = strict_prometheus.parse(render(report, "prometheus"))
    labels: dict[str, set[str]] = {}
    for name, found in samples:
        labels.setdefault(name, set()).update(label for label, _ in found)
    values = {
        "verdict": set(EXIT_STATUS),
        "status": {"pass", "fail", "warn", "skip", "unknown"},
        "reason": set(REASONS),
    }
    asked = list(_selectors((RULES / "kvmprobe.rules.yml").read_text()))
    assert len(asked) == 8
    for name, selected in asked:
        assert name in labels
        for label, value in selected:
            assert label in labels[name]
            assert value in values[label]


def _selectors(rules: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for expression in re.findall(r"expr: (.*)", rules):
        for name, selectors in re.findall(r"(kvmprobe_\w+)(?:\{(.*?)\})?", expression):
            yield name, re.findall(r'(\w+)="([^"]*)"', selectors)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a 1\n",
        "# HELP a b\na 1\n",
        "# TYPE a gauge\n# HELP a b\na 1\n",
        "# HELP a b\n# TYPE a gauge\n",
        "# HELP a b\n# TYPE a gauge\na 1",
        "# HELP a b\n# TYPE a gauge\na 1\na 1\n",
        "# HELP a b\n# TYPE a gauge\na 1 123\n",
        "# HELP a b\n# TYPE a gauge\na one\n",
        '# HELP a b\n# TYPE a gauge\na{b="\\q"} 1\n',
        '# HELP a b\n# TYPE a gauge\na{b="c"d"} 1\n',
        '# HELP a b\n# TYPE a gauge\na{b="c",b="d"} 1\n',
        "# HELP a b\n# TYPE a gauge\na 1\nb 1\n",
        "# HELP a b\n# TYPE a gauge\na 1\n# HELP a b\n# TYPE a gauge\na 2\n",
    ],
)
def test_the_strict_reader_is_strict(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        strict_prometheus.parse(text)
