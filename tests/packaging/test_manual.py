"""The manual page: no warnings from man-db, groff and mandoc; complete; the same bytes everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.model import errors
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS
from scripts.generators.markdown_to_man import convert
from tests.helpers import help_pages, written_share
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe

UTF8 = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "MANWIDTH": "2000", "MAN_KEEP_FORMATTING": "", "HOME": "/nonexistent"}
PAGE = "man/man8/kvmprobe.8"
DAY = str(86400 * 365)  # 1971-01-01
OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][a-z-]*")


def copied(folder: Path) -> Path:
    """A copy of what a source distribution contains (see MANIFEST.in): no git, other times."""
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "docs/kvmprobe.8.md", "scripts/__init__.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, folder / name)
    for name in ("kvmprobe", "scripts/generators"):
        shutil.copytree(PROJECT / name, folder / name, copy_function=shutil.copyfile)
    return folder


def run(program: str, *arguments: str | Path) -> Any:
    """Runs a program that formats manual pages."""
    if shutil.which(program) is None:
        why = f"{program} is not installed"
        pytest.fail(why) if os.environ.get("KVMPROBE_REQUIRE_KERNELS") else pytest.skip(why)
    return subprocess.run([program, *arguments], capture_output=True, text=True, env=UTF8, timeout=120, check=False)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, with a date."""
    return written_share.write(tmp_path_factory.mktemp("share"), SOURCE_DATE_EPOCH=DAY) / PAGE


@pytest.fixture(scope="module")
def shown(page: Path) -> str:
    """The page as a very wide terminal shows it."""
    text: str = run("man", "-l", page).stdout
    return re.sub(r".\x08", "", text)


def section(shown: str, title: str) -> str:
    """The text below a heading, up to the next one of the same level."""
    indent = len(title) - len(title.lstrip())
    found = re.search(rf"^{title}\n(.*?)(?=^ {{0,{indent}}}\S|\Z)", shown, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title!r}"
    return found[1]


@pytest.mark.parametrize(
    "command",
    [
        "man --warnings=w -E UTF-8 -Tutf8 -Z -l",
        "groff -ww -mandoc -Tutf8 -Z",
        "groff -ww -mandoc -Tascii -Z",
        "groff -ww -mandoc -Tps -Z",
        "mandoc -Wall -Tutf8",
    ],
)
def test_renders_without_a_warning(command: str, page: Path) -> None:
    done = run(*command.split(), page)
    assert (done.returncode, done.stderr) == (0, "")
    assert "kvmprobe" in done.stdout


def test_lint(page: Path) -> None:
    done = run("mandoc", "-Wall", "-Tlint", page)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_apropos_can_find_it(page: Path) -> None:
    assert re.search(r'"kvmprobe - show from the registers .*"\n$', run("lexgrog", page).stdout)


def test_a_defect_in_the_page_gives_a_warning(page: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.8"
    bad.write_text(page.read_text().replace(".SH FILES", ".SX FILES"))
    assert "SX" in run("man", "--warnings=w", "-E", "UTF-8", "-Tutf8", "-Z", "-l", bad).stderr
    assert run("mandoc", "-Wall", "-Tlint", bad).returncode != 0


@pytest.mark.parametrize("path", [path for path in help_pages.commands() if path])
def test_every_command_and_its_options(shown: str, path: str) -> None:
    options = help_pages.commands()[path]
    tags = set(OPTION.findall(" ".join(re.findall(r"^ +(-.*)$", shown, re.MULTILINE))))
    assert options <= tags  # described in some section
    if path not in help_pages.groups():  # and named in this one
        named = set(OPTION.findall(section(shown, f"   kvmprobe {path}")))
        assert {string for string in options if string.startswith("--")} <= named


def test_the_options_of_kvmprobe_itself(shown: str) -> None:
    assert all(string in section(shown, "OPTIONS") for string in help_pages.commands()[""])


@pytest.mark.parametrize("reason", REASONS.values(), ids=lambda reason: reason.name)
def test_every_reason(shown: str, reason: Any) -> None:
    text = " ".join(section(shown, "REASONS").split())
    assert f"{reason.name} ({reason.status}, {EXIT_STATUS[reason.status]})" in text
    for part in (reason.when, reason.kernel, reason.hint):
        assert part.replace("…", "...") in text


def test_every_exit_status(shown: str) -> None:
    text = section(shown, "EXIT STATUS")
    for name in (name for name in vars(errors) if name.startswith("EXIT_")):
        assert re.search(rf"^ +{getattr(errors, name)} +\w", text, re.MULTILINE), name


def test_every_environment_variable(shown: str) -> None:
    sources = "".join(path.read_text() for path in (PROJECT / "kvmprobe").rglob("*.py"))
    names = set(re.findall(r'environ(?:\.get\(|\[)"(\w+)"', sources))
    assert names
    assert {
        name for name in names if not re.search(rf"^ +{name}\b", section(shown, "ENVIRONMENT"), re.MULTILINE)
    } == set()


def test_the_same_bytes_everywhere(tmp_path: Path) -> None:
    one = written_share.write(tmp_path / "one", PYTHONHASHSEED="1", LC_ALL="C", TZ="Pacific/Apia")
    copy = copied(tmp_path / "copy")
    other = written_share.write(tmp_path / "other", copy, PYTHONHASHSEED="2", LC_ALL="C.UTF-8", COLUMNS="40")
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 4
    for name in files:
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_an_error_when_writing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(sys.executable, PROJECT / "scripts/generators", tmp_path / "file")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"manual: {tmp_path}/file/man/man8: Not a directory\n"


@pytest.mark.parametrize("path", help_pages.commands())
def test_help_fits_a_terminal(path: str) -> None:
    shown = kvmprobe(*path.split(), "--help", env={**os.environ, "COLUMNS": "80"}).stdout
    assert [line for line in shown.splitlines() if len(line) > 80] == []


def test_source_date_epoch_sets_the_date(page: Path, tmp_path: Path) -> None:
    assert '\n.TH KVMPROBE 8 "1971-01-01" ' in page.read_text()
    undated = written_share.write(tmp_path) / PAGE
    assert run("mandoc", "-Wall", "-Tlint", undated).stdout.count("\n") == 1  # the missing date
    assert run("groff", "-ww", "-mandoc", "-Tutf8", "-Z", undated).stderr == ""


def test_a_wheel_of_pip_contains_them(page: Path, tmp_path: Path) -> None:
    copy = copied(tmp_path / "copy")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-input", "--no-deps", "-w", str(tmp_path), str(copy)]
    subprocess.run(build, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": DAY})
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        data = {name.partition("/data/")[2]: name for name in archive.namelist() if ".data/data/" in name}
        assert sorted(data) == [
            "share/bash-completion/completions/kvmprobe",
            "share/fish/vendor_completions.d/kvmprobe.fish",
            f"share/{PAGE}",
            "share/zsh/site-functions/_kvmprobe",
        ]
        for name, inside in data.items():
            assert archive.read(inside) == (page.parent.parent.parent / name[len("share/") :]).read_bytes()


def test_an_unknown_place_in_the_prose_is_an_error(tmp_path: Path) -> None:
    copy = copied(tmp_path / "copy")
    prose = copy / "docs/kvmprobe.8.md"
    prose.write_text(prose.read_text().replace("<!-- reasons -->", "<!-- raisons -->"))
    with pytest.raises(subprocess.CalledProcessError):
        written_share.write(tmp_path / "share", copy)


def test_the_subset_of_markdown() -> None:
    """Every element, and characters that man(7) or Markdown would interpret."""
    assert convert(MARKDOWN) == MAN


MARKDOWN = r"""<!-- a comment -->

# NAME

first *word* of **two** lines with
`code`, \*stars\*, it's - and …

## sub section

.dots

one\
two

**term**
:   its text
    goes on

    *more*: text

```
a  -b
'c
```
"""
MAN = r""".SH NAME
first \fIword\fR of \fBtwo\fR lines with \fBcode\fR, *stars*, it\(aqs \- and ...
.SS "sub section"
\&.dots
.PP
one
.br
two
.TP
\fBterm\fR
its text goes on
.IP
\fImore\fR: text
.PP
.RS 4
.nf
a  \-b
\(aqc
.fi
.RE
"""
