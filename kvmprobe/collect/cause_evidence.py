"""The evidence that only a verdict's cause needs: what a host that is in order pays for it is a few small files."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.kernel_command_line import read_command_line
from kvmprobe.host.process_rights import read_rights
from kvmprobe.host.surroundings import read_surroundings
from kvmprobe.host.sysroot import Sysroot

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Device, Module, MoreEvidence


def take_cause_evidence(root: Sysroot, release: str, modules: dict[str, Module] | None, device: Device) -> MoreEvidence:
    """Return the evidence about why a step failed.

    The files of modules are read, and modprobe is asked, where kvm_amd is missing and no other backend is there.
    """
    command_line, left_out = read_command_line(root)
    more: MoreEvidence = {
        "command_line": command_line,
        "command_line_left_out": left_out,
        "surroundings": read_surroundings(root),
        "rights": read_rights(root, with_mounts=device["opened"] is not True),
    }
    if modules is not None and "kvm_amd" not in modules and device["registered"] is not True:
        from kvmprobe.host.module_files import read_module_files

        more["module_files"] = read_module_files(root, release)
    return more
