"""Kernels of the user's own, wrong names and files for kernels, and a machine without what the lab needs."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.lab import apt, external_programs, kernels
from kvmprobe.lab.kernels import Kernel
from kvmprobe.model.errors import DataProblem, Problem, UsageProblem
from tests.helpers import lab_images
from tests.helpers.real_kernels import unavailable


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


def _vmlinuz(path: Path, config: str = "") -> Path:
    """A bzImage of 6.1.0, with a configuration inside."""
    packed = b"IKCFG_ST" + gzip.compress(config.encode())
    path.write_bytes(lab_images.bzimage(gzip.compress(lab_images.vmlinux() + packed), release="6.1.0"))
    return path


def _installed(folder: Path, *releases: str, lib: str = "lib", builtin: str = "kernel/kvm-amd.ko\n") -> Path:
    """What `make modules_install INSTALL_MOD_PATH=folder` leaves for kernels without any module."""
    for release in releases:
        (folder / lib / "modules" / release).mkdir(parents=True)
        (folder / lib / "modules" / release / "modules.builtin").write_text(builtin)
        (folder / lib / "modules" / release / "modules.order").write_text("")
    return folder


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., Kernel]:
    """A function that prepares a kernel of the user's own in a cache."""
    for program, package in (("depmod", "kmod"), ("busybox", "busybox-static")):
        try:
            external_programs.find(program, package)
        except Problem as problem:
            unavailable(problem)
    return lambda vmlinuz, modules: kernels.custom(vmlinuz, modules, tmp_path / "cache", _ignore)


@pytest.mark.parametrize("lib", ["lib", "usr/lib"])
def test_the_install_path_of_several_kernels(lib: str, prepare: Callable[..., Kernel], tmp_path: Path) -> None:
    path = _installed(tmp_path / "out", "5.10.0", "6.1.0", lib=lib)
    kernel = prepare(_vmlinuz(tmp_path / "vmlinuz"), path)
    assert (kernel.release, kernel.modules) == ("6.1.0", path / lib / "modules/6.1.0")
    assert b"lib/modules/6.1.0/modules.builtin\0" in kernel.initramfs.read_bytes()


def test_the_install_path_of_a_vmlinux(prepare: Callable[..., Kernel], tmp_path: Path) -> None:
    vmlinux = tmp_path / "vmlinux"
    vmlinux.write_bytes(lab_images.vmlinux())  # it does not contain its release
    assert prepare(vmlinux, _installed(tmp_path / "one", "6.1.0")).release == "6.1.0"
    several = _installed(tmp_path / "several", *(f"6.{minor}.0" for minor in range(7)))
    with pytest.raises(
        DataProblem, match=r"6\.0\.0, .*6\.4\.0, …, and the kernel's image does not contain its release"
    ):
        prepare(vmlinux, several)
    vmlinux.write_bytes(lab_images.vmlinux() + b"\0Linux version 6.6.0 (builder@host) #1\0")
    assert prepare(vmlinux, several).release == "6.6.0"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("other", r"lib/modules has the modules of 5\.10\.0, not of 6\.1\.0"),
        ("none", r"lib/modules has the modules of no kernel, not of 6\.1\.0"),
        ("6.1.0", r"6\.1\.0 has no modules and no modules\.builtin"),
    ],
)
def test_a_folder_without_the_kernels_modules(given: str, message: str, tmp_path: Path) -> None:
    _installed(tmp_path / "other", "5.10.0")
    (tmp_path / "none/lib/modules").mkdir(parents=True)
    (tmp_path / "6.1.0/kernel").mkdir(parents=True)
    with pytest.raises(DataProblem, match=message) as caught:
        kernels.custom(_vmlinuz(tmp_path / "vmlinuz"), tmp_path / given, tmp_path / "cache", _ignore)
    assert caught.value.hint
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["modules.builtin", "modules.dep", "modules.dep.bin", "modules.builtin.modinfo"])
def test_a_changed_list_of_modules_is_noticed(name: str, prepare: Callable[..., Kernel], tmp_path: Path) -> None:
    vmlinuz = _vmlinuz(tmp_path / "vmlinuz")
    modules = _installed(tmp_path / "out", "6.1.0") / "lib/modules/6.1.0"
    before = prepare(vmlinuz, modules)
    assert prepare(vmlinuz, modules) == before
    if name == "modules.dep.bin":  # only depmod writes it
        external_programs.run(external_programs.find("depmod", "kmod"), "-b", tmp_path / "out", "6.1.0")
    else:
        (modules / name).write_text("kernel/msr.ko\n")
    after = prepare(vmlinuz, modules)
    assert after.initramfs != before.initramfs
    if name == "modules.builtin":
        assert b"kernel/msr.ko" in after.initramfs.read_bytes()


def test_a_kernel_without_modules(prepare: Callable[..., Kernel], tmp_path: Path) -> None:
    kernel = prepare(_vmlinuz(tmp_path / "vmlinuz", "CONFIG_KVM_AMD=y\n"), None)
    assert (kernel.name, kernel.release, kernel.loads_modules) == ("6.1.0", "6.1.0", False)
    initramfs = kernel.initramfs.read_bytes()
    assert b"bin/busybox\0" in initramfs
    assert b"lib/modules/" + kernel.release.encode() not in initramfs
    with pytest.raises(
        UsageProblem, match=r"kvm_amd is a module of .*vmlinuz: CONFIG_KVM_AMD=m in .*vmlinuz"
    ) as caught:
        prepare(_vmlinuz(tmp_path / "vmlinuz", "CONFIG_KVM_AMD=m\n"), None)
    assert "--modules" in str(caught.value.hint)


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
