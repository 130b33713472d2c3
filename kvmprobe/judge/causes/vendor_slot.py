"""KVM has one slot for a vendor module: where another one has it, kvm_amd cannot load.

kvm_x86_vendor_init() (until 6.1 kvm_arch_init()) in arch/x86/kvm/x86.c answers EEXIST, and modprobe
reports success for that.
"""

from __future__ import annotations

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import from_log, is_built_in, module, users_beyond_holders
from kvmprobe.judge.causes.steps import LOAD_AGAIN
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import attempt_to_load, last_refusal


def other_vendor(facts: Facts) -> Found | None:
    """The vendor module that the kernel's line names, if it is still there; else one that /sys/module shows."""
    if facts.has_kvm_amd and not is_built_in(facts, "kvm_amd"):
        return None
    refusal = last_refusal(facts, "other-vendor")
    loaded = facts.backends()
    if refusal is not None and refusal.word is not None:
        names = [refusal.word.replace("-", "_")]
        if facts.has_kvm_amd is not None and names[0] not in facts.modules:
            return None  # it was unloaded since
    elif refusal is not None or _succeeded_in_vain(facts) or _answers_without_kvm_amd(facts):
        names = [name for name in loaded if not is_built_in(facts, name)] or loaded
    else:
        return None
    if not names:
        return Found(from_log(refusal.text), _UNNAMED) if refusal else None
    because = from_log(refusal.text) if refusal else []
    return _found(facts, names[0], because)


def _answers_without_kvm_amd(facts: Facts) -> bool:
    """/dev/kvm is registered, which only a vendor module does, and kvm_amd is not there."""
    return facts.has_kvm_amd is False and facts.evidence["device"]["registered"] is True


def _succeeded_in_vain(facts: Facts) -> bool:
    attempt = attempt_to_load(facts)
    return attempt is not None and attempt["status"] == 0 and facts.has_kvm_amd is False


def _found(facts: Facts, name: str, because: list[str]) -> Found:
    state = module(facts, name)
    if state is None:
        return Found(because, module=name)
    references = "" if state["refcount"] is None else f", refcount {state['refcount']}"
    because = [*because, f"{name}: {state['state']}{references}"]
    if state["state"] == "builtin" or is_built_in(facts, "kvm_amd"):
        return Found(because, _BUILT_IN, module=name)
    if (users_beyond_holders(state) or 0) > 0:
        return Found(because, _IN_USE, module=name)
    return Found(because, module=name)


_UNNAMED = (
    "KVM accepts one vendor module, and another one is loaded. See which one, and unload it:",
    "$ lsmod | grep ^kvm",
    "# modprobe -r MODULE",
    *LOAD_AGAIN,
)

_BUILT_IN = (
    (
        "KVM accepts one vendor module, and {module} is it. A module that is built in cannot be unloaded: boot a "
        "kernel that has kvm_amd and {module} as loadable modules, or one without {module}."
    ),
)

_IN_USE = (
    "KVM accepts one vendor module, and {module} is in use. End its VMs first, then unload it:",
    "# modprobe -r {module}",
    *LOAD_AGAIN,
)

OTHER_VENDOR = Cause(
    "other-vendor-module",
    ("kvm-amd-not-loaded", "kvm-amd-load-failed", "kvm-device-missing", "msr-unreadable"),
    "KVM accepts one vendor module, and another one, such as kvm_pvm, is loaded. The kernel refuses kvm_amd with "
    "EEXIST, and modprobe then reports success.",
    other_vendor,
    (
        "KVM accepts one vendor module, and {module} is loaded. Unload it first:",
        "# modprobe -r {module}",
        *LOAD_AGAIN,
        "To keep it away at the next boots, add 'blacklist {module}' to a file in /etc/modprobe.d.",
    ),
)
