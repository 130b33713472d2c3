"""The table of the kernel's mutants, the source with all of them in it, and how the answers are rated.

The modules that it builds run in `scripts/mutants`, not here: the build takes minutes.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from kvmprobe.model.reasons import REASONS
from scripts.kernel_mutants import mutant_page, mutant_source, mutant_table, ratings
from scripts.kernel_mutants.commands import COMMANDS, COMPARISONS, LOST, WORSE
from scripts.kernel_mutants.mutant_boots import Answer, Task, answers_in
from scripts.kernel_mutants.mutant_table import NONE, Mutant
from tests.helpers.run_kvmprobe import PROJECT

TABLES = sorted(mutant_table.HERE.glob(f"*{mutant_table.SUFFIX}"))
EVIDENCE = PROJECT / "tests/evidence/matrix/bookworm"
TABLE = """\
# a comment
first: it adds one
  catch: check guest-failed
@ a.c
-	x = 1;
+	x = 2;

second: it adds two
  catch: compare WORSE
  before: svme-on-cpu1
@ a.c
-	x = 1;
+	int y = 2;
+	x = 1 + y;
-	z = 0;
+	z = 1;
@ b.c
-	call();
+	;
"""
SOURCE = """\
#include <stdio.h>
int kvm_mutant;
int main(int count, char **names)
{
	int x, z;
	kvm_mutant = count - 1;
	x = 1;
	z = 0;
	printf("%d %d\\n", x, z);
	return 0;
}
"""


def _read(tmp_path: Path, text: str) -> list[Mutant]:
    path = tmp_path / "linux-0.1.mutants"
    path.write_text(text)
    return mutant_table.read(path)


def test_table_is_read(tmp_path: Path) -> None:
    """Numbers, commands, states and edits, of several files and several places in one file."""
    first, second = _read(tmp_path, TABLE)
    assert (first.number, first.name, first.change, first.command) == (1, "first", "it adds one", "check")
    assert (first.expected, first.before, len(first.edits)) == (("guest-failed",), "", 1)
    assert (second.number, second.expected, second.before) == (2, (WORSE,), "svme-on-cpu1")
    assert [(edit.path, edit.original) for edit in second.edits] == [
        ("a.c", "\tx = 1;\n"),
        ("a.c", "\tz = 0;\n"),
        ("b.c", "\tcall();\n"),
    ]
    assert second.edits[0].changed == "\tint y = 2;\n\tx = 1 + y;\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("second: it", "first: it", "two mutants"),
        ("first: it adds one", "first", "NAME: CHANGE"),
        ("  catch: check guest-failed\n", "", "no catch"),
        ("  before: svme", "  after: svme", "unknown: after"),
        ("-	call();\n", "", "an edit has"),
        ("+	;\n", "", "an edit has"),
    ],
)
def test_table_with_a_mistake_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Each mistake is named."""
    with pytest.raises(ValueError, match=message):
        _read(tmp_path, TABLE.replace(old, new, 1))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_tables_of_the_project_are_sound(path: Path) -> None:
    """They can be read, and name commands and comparisons that exist, and what these are to answer."""
    mutants = mutant_table.read(path)
    assert len(mutants) >= 10
    for mutant in mutants:
        if mutant.command in COMPARISONS:
            assert WORSE in mutant.expected, mutant.name
        elif mutant.command == NONE:
            assert not mutant.expected, mutant.name
        else:
            assert mutant.command in COMMANDS, mutant.name
            assert mutant.expected, mutant.name
            assert {*REASONS, LOST}.issuperset(name.partition("/")[0] for name in mutant.expected)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_one_build_runs_as_each_mutant(tmp_path: Path) -> None:
    """Without a mutant the program is the original, and each number changes only its own lines."""
    edits = [(mutant.number, edit) for mutant in _read(tmp_path, TABLE) for edit in mutant.edits if edit.path == "a.c"]
    changes = [(number, edit.original, edit.changed) for number, edit in edits]
    (tmp_path / "a.c").write_text(mutant_source.with_mutants(SOURCE, changes))
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", tmp_path / "a", tmp_path / "a.c"], check=True)
    ran = [subprocess.run([tmp_path / "a", *["x"] * number], stdout=subprocess.PIPE, check=True) for number in range(3)]
    assert [result.stdout for result in ran] == [b"1 0\n", b"2 0\n", b"3 1\n"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([(7, "\tx = 3;\n", "\t;\n")], "of mutant 7 occur 0 times"),
        ([(7, "\t", "\t;\n")], "occur 6 times"),
        ([(1, "\tx = 1;\n\tz = 0;\n", "\t;\n"), (7, "\tz = 0;\n", "\t;\n")], "mutant 7 overlap"),
    ],
)
def test_lines_that_are_not_unique_are_refused(changes: list[tuple[int, str, str]], message: str) -> None:
    """A kernel whose lines differ is named, not built wrong."""
    with pytest.raises(ValueError, match=message):
        mutant_source.with_mutants(SOURCE, changes)


def _line(**entry: object) -> str:
    return json.dumps(entry) + "\n"


def test_lost_guest_loses_one_task() -> None:
    """The answers before the end are read, and the task that began last is named."""
    tasks = [Task(1, "check"), Task(2, "check"), Task(3, "check")]
    packed = base64.b64encode(zlib.compress(b'{"a": 1}')).decode()
    output = _line(id=0, event="start") + _line(id=0, event="end", status=1, report=packed, stderr="text")
    output += _line(id=1, event="start") + '{"id": 1, "event": "end", "sta'
    found, started = answers_in(output.encode(), tasks)
    assert found == {tasks[0]: Answer(1, '{"a": 1}', stderr="text")}
    assert started == tasks[1]


def _answer(scenario: str) -> Answer:
    return Answer(0, (EVIDENCE / f"{scenario}.json").read_text())


MUTANT = Mutant(1, "name", "change", "check", ("svm-held-by-another-owner",), "", "", ())


@pytest.mark.parametrize(
    ("answer", "rating"),
    [
        (_answer("epyc"), ratings.SLIPPED),
        (_answer("held-first"), ratings.CAUGHT),
        (_answer("no-svm"), ratings.WRONG),
        (Answer(70, "", stderr="a defect"), ratings.WRONG),
        (Answer(None, "", lost="panic"), ratings.WRONG),
        (Answer(0, "{}"), ratings.WRONG),
    ],
)
def test_answers_are_rated(answer: Answer, rating: str) -> None:
    """By the verdict on the evidence, not by the exit status that a guest left."""
    assert ratings.rate(MUTANT, {Task(1, "check"): answer})["check"].rating == rating


def test_comparison_is_rated() -> None:
    """The report is compared with that of the good kernel; a comparison that finds nothing worse has slipped."""
    answers = {
        Task(0, "check"): _answer("epyc"),
        Task(1, "check"): _answer("no-svm"),
        Task(2, "check"): _answer("epyc"),
    }
    assert ratings.rate(MUTANT, answers)["compare"].rating == ratings.CAUGHT
    same = Mutant(2, "same", "change", "compare", (WORSE,), "", "", ())
    assert ratings.named(same, ratings.rate(same, answers)) == ratings.SLIPPED


def test_false_alarm_is_named() -> None:
    """A good kernel that is not confirmed, or worse than itself."""
    good = {Task(0, "check"): _answer("epyc")}
    assert ratings.good_faults(good) == []
    faults = ratings.good_faults({**good, Task(0, "check", again=1): _answer("no-svm")})
    assert [fault.partition(": ")[0] for fault in faults] == ["check", "compare of two runs of check"]


def test_page_gets_the_table(tmp_path: Path) -> None:
    """Only what is between the marks changes. The command that the table names is in bold."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- mutants of 0.1 -->\nold\n<!-- end of the mutants of 0.1 -->\nafter\n")
    found = {"name": ratings.rate(MUTANT, {Task(1, "check"): _answer("epyc"), Task(1, "kill"): _answer("no-svm")})}
    lines = [*mutant_page.summary([MUTANT], found), *mutant_page.table([MUTANT], found)]
    mutant_page.write("0.1", lines, page)
    text = page.read_text()
    assert text.startswith("before\n<!-- mutants of 0.1 -->\n1 mutants, 1 of which can be seen")
    assert "| name | change | **slips** |  |  | kill: cpu-lacks-svm |" in text
    assert text.endswith("<!-- end of the mutants of 0.1 -->\nafter\n")
    with pytest.raises(ValueError, match="lacks the marks"):
        mutant_page.write("0.2", lines, page)
