"""Wrong names and files for kernels, and a machine without what the lab needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.lab import apt, kernels
from kvmprobe.model.errors import DataProblem, Problem, UsageProblem
from tests.helpers import lab_images


def _ignore(line: str) -> None:
    del line


def test_unknown_name() -> None:
    with pytest.raises(UsageProblem, match="'potato'") as caught:
        kernels.debian("potato")
    assert "bookworm, trixie" in str(caught.value.hint)


@pytest.mark.parametrize("modules", ["missing", "file", "6.2.0"])
def test_modules_of_another_kernel(modules: str, tmp_path: Path) -> None:
    vmlinuz = tmp_path / "vmlinuz"
    vmlinuz.write_bytes(lab_images.bzimage(b"", release="6.1.0"))
    (tmp_path / "file").write_text("")
    (tmp_path / "6.2.0").mkdir()
    with pytest.raises(DataProblem, match=modules) as caught:
        kernels.custom(vmlinuz, tmp_path / modules, tmp_path / "cache", _ignore)
    assert caught.value.hint
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\necho 'Ubuntu|Ubuntu|http://mirror/'\n", "no Debian mirror"),
        ("#!/bin/sh\n", "no Debian mirror"),
        ("#!/bin/sh\necho 'E: broken' >&2; exit 100\n", "apt-get failed: E: broken"),
        (None, "apt-get is not installed"),
    ],
)
def test_no_mirror(script: str | None, message: str, only: Callable[..., None], tmp_path: Path) -> None:
    only(**({"apt_get": script} if script else {}))
    with pytest.raises(Problem, match=message):
        kernels.fetch(kernels.debian("bookworm"), tmp_path / "cache", _ignore)
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [".bookworm.lock"]


def test_a_network_that_fails(only: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "KEYRING", tmp_path)
    script = '#!/bin/sh\ncase "$*" in *update) echo "E: no route" >&2; exit 100;; esac\necho "Debian|Debian|file:/x"\n'
    only(apt_get=script)
    with pytest.raises(Problem, match="apt-get failed: E: no route") as caught:
        kernels.fetch(kernels.debian("bookworm"), tmp_path / "cache", _ignore)
    assert "--kernel" in str(caught.value.hint)


def test_a_kernel_in_split_packages(only: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "KEYRING", tmp_path)
    depends = """#!/bin/sh
for name; do :; done
case $name in
linux-image-amd64) printf 'linux-image-amd64\\n  Depends: linux-base-amd64\\n  Depends: linux-image-7.3-amd64\\n' ;;
linux-image-7.3-amd64)
    printf '  PreDepends: linux-base\\n |Depends: <dracut>\\n  Depends: linux-base-7.3-amd64\\n'
    printf '  Depends: linux-binary-7.3-amd64\\n  Depends: linux-modules-7.3-amd64\\n' ;;
esac
"""
    get = '#!/bin/sh\ncase "$*" in *indextargets*) echo "Debian|Debian|file:/x";; esac\n'
    only(apt_get=get, apt_cache=depends)
    progress: list[str] = []
    apt.Apt("sid", tmp_path / "apt").kernel(progress.append)
    assert progress == ["sid: downloading linux-image-7.3-amd64 linux-binary-7.3-amd64 linux-modules-7.3-amd64 …"]
