"""No SVM bit under Xen, which owns SVM itself: dom0, PV domains, HVM guests."""

from __future__ import annotations

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import hypervisor, hypervisor_text, leaf_word, no_svm_lines, surroundings
from kvmprobe.judge.facts import Facts
from kvmprobe.model.registers import LEAF_FEATURES
from kvmprobe.model.values import as_int

_REASONS = ("cpu-lacks-svm",)
_XENFEAT_DOM0 = 11  # include/xen/interface/features.h
_PGE = 13  # CPUID 1 EDX: Xen keeps it from paravirtualized domains


def _xen_features(facts: Facts) -> int | None:
    found = surroundings(facts)
    return as_int(found["xen_features"]) if found else None


def _is_xen(facts: Facts) -> bool:
    found = surroundings(facts)
    named = found is not None and found["hypervisor_type"] == "xen"
    return named or hypervisor(facts).startswith("XenVMMXenVMM")


def xen_dom0(facts: Facts) -> Found | None:
    features = _xen_features(facts)
    if not _is_xen(facts) or features is None or not features >> _XENFEAT_DOM0 & 1:
        return None
    quoted = [f"/sys/hypervisor/properties/features: {features:08x} (bit 11, XENFEAT_dom0)"]
    return Found([*hypervisor_text(facts), *quoted, *no_svm_lines(facts)])


def xen_paravirtualized(facts: Facts) -> Found | None:
    """Without the feature bits: a paravirtualized domain, which the usual dom0 is, sees no PGE."""
    edx = leaf_word(facts, LEAF_FEATURES, 3)
    if not _is_xen(facts) or edx is None or edx >> _PGE & 1:
        return None
    return Found([*hypervisor_text(facts), f"CPUID 1 EDX = {edx:#x}, without PGE: a PV domain", *no_svm_lines(facts)])


def xen_guest(facts: Facts) -> Found | None:
    return Found([*hypervisor_text(facts), *no_svm_lines(facts)]) if _is_xen(facts) else None


CAUSES = (
    Cause(
        "xen-dom0",
        _REASONS,
        "The host is Xen's dom0. Xen owns SVM, and shows dom0 a CPU without it. Source: feature bit 11, XENFEAT_dom0.",
        xen_dom0,
        (
            (
                "Xen owns SVM on this machine, and this is its dom0. To use KVM, boot the kernel without Xen: "
                "choose the boot entry that does not begin with Xen. On Debian, make that the default:"
            ),
            "# sh -c 'echo XEN_OVERRIDE_GRUB_DEFAULT=0 >>/etc/default/grub.d/xen.cfg'",
            "# grub-mkconfig -o /boot/grub/grub.cfg",
            "# systemctl reboot",
            "To stay with Xen, run VMs with Xen's own tools (xl, or libvirt's xen:///system) instead.",
        ),
    ),
    Cause(
        "xen-pv-domain",
        _REASONS,
        "The host is a paravirtualized Xen domain: the usual dom0, or a PV guest. Xen owns SVM and never gives it "
        "to one.",
        xen_paravirtualized,
        (
            "Xen owns SVM on this machine, and this is a PV domain, either dom0 or a guest. See which one:",
            "$ cat /proc/xen/capabilities",
            (
                "If it shows control_d, this is dom0: boot the kernel without Xen (the boot entry that does not "
                "begin with Xen) to use KVM, or run VMs with Xen's own tools (xl) instead."
            ),
            (
                "If it does not, ask whoever runs Xen to make this PV guest, which never has SVM, an HVM guest with "
                "nestedhvm=1."
            ),
        ),
    ),
    Cause(
        "xen-guest-without-nested-svm",
        _REASONS,
        "The host is a guest of Xen without nested virtualization.",
        xen_guest,
        (
            (
                "This is a guest of Xen. Ask whoever runs Xen to set nestedhvm=1 and type='hvm' in the guest's "
                "configuration and to start the guest again. If this is dom0, boot the kernel without Xen."
            ),
        ),
    ),
)
