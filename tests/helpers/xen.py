"""Xen with a kernel of the lab as its dom0: Debian's hypervisor, downloaded and unpacked into the lab's cache."""

from __future__ import annotations

import gzip
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from kvmprobe.lab import boot_result, cache, external_programs, qemu
from kvmprobe.lab.apt import Apt
from kvmprobe.lab.boot_result import BootResult
from kvmprobe.lab.qemu import Boot

# Without SMAP and SMEP: with them, the emulated dom0 crashes in Xen 4.17's create_bounce_frame().
CPU = "EPYC,+svm,-smap,-smep"
_SUITE, _PACKAGE = "bookworm", "xen-hypervisor-4.17-amd64"
_OPTIONS = "console=com1 com1=115200,8n1 dom0_mem=768M sched=credit cpuidle=0"  # TCG has no MWAIT that Xen could use


def boot(plan: Boot, folder: Path) -> BootResult:
    """Boots `plan` as Xen's dom0. Its machine needs 1 GiB and CPU. Raises Problem where Xen cannot be had."""
    program = external_programs.find("qemu-system-x86_64", "qemu-system-x86")
    hypervisor = cache.entry(cache.default(), f"xen-{_SUITE}-1", _make, print)[0] / "xen"
    started = time.monotonic()
    console = folder / "console"
    with TemporaryDirectory(prefix="kvmprobe-lab-") as temp:
        results, initrd, output = (Path(temp, name) for name in ("results", "initrd", "qemu"))
        results.mkdir()
        initrd.write_bytes(plan.kernel.initramfs.read_bytes() + plan.payload)
        arguments = qemu.arguments("tcg,thread=single", plan, initrd, results, console)
        parameters = arguments[arguments.index("-append") + 1].replace("console=ttyS0", "console=hvc0")
        # By the Multiboot protocol the kernel and its initramfs are modules of the hypervisor, which has no comma in
        # them, and takes a bzImage only.
        modules = f"{plan.kernel.image.with_name('vmlinuz')} {parameters},{initrd}"
        for option, value in (("-kernel", str(hypervisor)), ("-initrd", modules), ("-append", _OPTIONS)):
            arguments[arguments.index(option) + 1] = value
        with output.open("wb") as log:
            try:
                run = subprocess.run([program, *arguments], stdout=log, stderr=log, timeout=plan.deadline, check=False)
                status = run.returncode
            except subprocess.TimeoutExpired:
                status = None
        return boot_result.read(results, console, status, output, time.monotonic() - started)


def _make(new: Path) -> cache.Meta:
    with TemporaryDirectory(dir=new) as work:
        apt = Apt(_SUITE, Path(work, "apt"))
        apt.update()
        for package in apt.download([_PACKAGE], print):
            external_programs.run(external_programs.find("dpkg-deb", "dpkg"), "-x", package, Path(work, "unpacked"))
        (packed,) = Path(work, "unpacked/boot").glob("xen-*-amd64.gz")
        (new / "xen").write_bytes(gzip.decompress(packed.read_bytes()))
    return {}
