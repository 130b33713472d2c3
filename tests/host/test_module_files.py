"""The files that decide whether modprobe finds and loads kvm_amd."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmprobe.host.kernel_command_line import read_command_line
from kvmprobe.host.module_files import read_module_files
from kvmprobe.host.sysroot import Sysroot

RELEASE = "6.1.0-50-amd64"


def write(folder: Path, files: dict[str, str]) -> Sysroot:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Sysroot(str(folder))


DEP = "kernel/arch/x86/kvm/kvm.ko.xz: kernel/virt/lib/irqbypass.ko.xz\nkernel/arch/x86/kvm/kvm-amd.ko.xz: x\n"


@pytest.mark.parametrize(
    ("files", "folder", "index", "kvm_amd"),
    [
        ({}, False, None, None),
        ({"lib/modules/5.10.0/modules.dep": DEP}, False, None, None),
        ({f"lib/modules/{RELEASE}/modules.dep": DEP}, True, True, "module"),
        ({f"usr/lib/modules/{RELEASE}/modules.dep": DEP}, True, True, "module"),
        ({f"run/booted-system/kernel-modules/lib/modules/{RELEASE}/modules.dep": DEP}, True, True, "module"),
        ({f"lib/modules/{RELEASE}/modules.dep": "kernel/x/kvm-intel.ko: y\n"}, True, True, None),
        (
            {
                f"lib/modules/{RELEASE}/modules.dep": "",
                f"lib/modules/{RELEASE}/modules.builtin": "kernel/x/kvm-amd.ko\n",
            },
            True,
            True,
            "builtin",
        ),
        ({f"lib/modules/{RELEASE}/kernel/kvm-amd.ko": ""}, True, False, None),
    ],
)
def test_modules_of_the_kernel(
    files: dict[str, str], folder: bool, index: bool | None, kvm_amd: str | None, tmp_path: Path
) -> None:
    found = read_module_files(write(tmp_path, files), RELEASE)
    assert (found["folder"], found["index"], found["kvm_amd"]) == (folder, index, kvm_amd)
    assert found["would_run"] is None
    assert found["in_force"] is None


def test_a_folder_that_may_not_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/modules").symlink_to("modules")  # a loop: ELOOP, also for root
    assert read_module_files(Sysroot(str(tmp_path)), RELEASE)["folder"] == {"error": "ELOOP"}


def test_lines_of_modprobes_configuration(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "etc/modprobe.d/a.conf": "# blacklist kvm_amd\nblacklist kvm-amd\n\noptions kvm_amd nested=0\n",
            "etc/modprobe.d/notes.txt": "install kvm_amd /bin/true\n",
            "run/modprobe.d/b.conf": "install kvm /bin/false\n",
            "usr/lib/modprobe.d/a.conf": "blacklist kvm_amd # masked by the one in /etc\n",
            "lib/modprobe.d/c.conf": "blacklist kvm_intel\nalias cpu:type:x86 kvm_amd\n",
        },
    )
    lines = read_module_files(root, RELEASE)["lines"]
    assert isinstance(lines, list)
    assert [(line["file"], line["number"], line["text"]) for line in lines] == [
        ("/etc/modprobe.d/a.conf", 2, "blacklist kvm-amd"),
        ("/etc/modprobe.d/a.conf", 4, "options kvm_amd nested=0"),
        ("/run/modprobe.d/b.conf", 1, "install kvm /bin/false"),
    ]


def test_kernel_modules_disabled(tmp_path: Path) -> None:
    assert read_module_files(Sysroot(str(tmp_path)), RELEASE)["loading_disabled"] is None
    root = write(tmp_path, {"proc/sys/kernel/modules_disabled": "1\n"})
    assert read_module_files(root, RELEASE)["loading_disabled"] == "1"


def test_modprobe_is_asked_on_this_machine_only() -> None:
    found = read_module_files(Sysroot(), "no-such-kernel")
    assert found["would_run"] is not None
    assert found["folder"] is False


def test_the_command_line_is_reduced_to_what_bears_on_kvm(tmp_path: Path) -> None:
    text = (
        "BOOT_IMAGE=/vmlinuz root=UUID=1 rd.luks.key=secret clearcpuid=svm kvm-amd.nested=0 kvm.enable_virt_at_load=0 "
        "module_blacklist=kvm_amd modprobe.blacklist=x noexec=off quiet kvmfoo=1 lockdown=integrity "
        'initcall_blacklist=svm_init mitigations=off ip=dhcp:pass "luks=a kvm.b" ks="x -- kvm.c=1" -- kvm.password=x\n'
    )
    kept, left_out = read_command_line(write(tmp_path, {"proc/cmdline": text}))
    assert left_out == 8
    assert kept == [
        "clearcpuid=svm",
        "kvm-amd.nested=0",
        "kvm.enable_virt_at_load=0",
        "module_blacklist=kvm_amd",
        "modprobe.blacklist=x",
        "noexec=off",
        "lockdown=integrity",
        "initcall_blacklist=svm_init",
        "mitigations=off",
    ]
    (tmp_path / "proc/cmdline").unlink()
    assert read_command_line(Sysroot(str(tmp_path))) == ({"error": "ENOENT"}, None)
