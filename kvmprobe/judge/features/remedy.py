"""What to do where a feature is not in effect, by the step that refused it."""

from __future__ import annotations

from collections.abc import Mapping

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.features.feature_evidence import in_a_vm, svm_is_allowed
from kvmprobe.judge.features.feature_table import FEATURES

if TYPE_CHECKING:
    from kvmprobe.judge.features.feature import Feature
    from kvmprobe.model.judgement import FeatureReport

_OTHER_HOST = "No setting changes this: choose another host."
_IN_VM = (
    "Give this VM the feature in the hypervisor outside, if the physical CPU has it (QEMU: `-cpu host`), "
    "or choose another host."
)
# svm_set_cpu_caps() in arch/x86/kvm/svm/svm.c offers guests the bits of other features, and not those of AVIC.
_NOT_IN_VM = "Use bare metal: KVM gives no VM this feature."
_HOST_ONLY = ("avic", "x2avic")  # names in CPUID_BITS
# The defaults of parameters that are numbers: KVM_SVM_DEFAULT_PLE_WINDOW and KVM_DEFAULT_PLE_GAP in arch/x86/kvm/x86.h.
_ON = {"pause_filter_count": "3000", "pause_filter_thresh": "128"}
PROBE_AGAIN = "Run `kvmprobe` of this version on the host again, with root's rights."


def remedy(feature: Feature, facts: Facts, rows: Mapping[str, FeatureReport]) -> str:
    """One sentence for each step, commands in backticks. `rows`: of all features, by name."""
    step = rows[feature.name]["first_no"]
    if step is None:
        return PROBE_AGAIN
    if step == "needs":
        needed = next(name for name in feature.needs if rows[name]["in_effect"] is False)
        return remedy(FEATURES[needed], facts, rows)
    return {
        "cpu": _of_cpu(feature, facts),
        "firmware": _of_firmware(facts),
        "not-loaded": "Load kvm_amd: `modprobe kvm_amd`. If that fails, see the verdict.",
        "kernel": "Boot a newer kernel, without clearcpuid= on its command line.",
        "rule": _of_rule(feature, facts, rows),
        "parameter": _switch_on(feature, facts),
        "kvm": _switch_on(feature, facts),
    }[step]


def _of_cpu(feature: Feature, facts: Facts) -> str:
    if not in_a_vm(facts):
        return _OTHER_HOST
    return _NOT_IN_VM if feature.bit in _HOST_ONLY else _IN_VM


def _of_firmware(facts: Facts) -> str:
    if svm_is_allowed(facts) is False:
        return "Enable SVM in the firmware's setup."
    return "Enable AVIC in the firmware's setup, where it has such an option. Else choose another host."


def _of_rule(feature: Feature, facts: Facts, rows: Mapping[str, FeatureReport]) -> str:
    """A rule that asks for the threshold of the pause filter needs what that needs: svm_hardware_setup() sets
    pause_filter_thresh to 0 where the CPU has no threshold."""
    if feature.name == "pause-filter":
        return remedy(FEATURES["pause-filter-threshold"], facts, rows)
    return _OTHER_HOST


def _switch_on(feature: Feature, facts: Facts) -> str:
    """How to load kvm_amd with the feature's parameter on."""
    option = f"{feature.parameter}={_ON.get(feature.parameter or '', '1')}"
    if facts.has_kvm_amd and facts.modules["kvm_amd"]["state"] == "builtin":
        return f"Boot with kvm_amd.{option} on the kernel's command line."
    kept = f"`echo options kvm_amd {option} >/etc/modprobe.d/kvm_amd-{feature.name}.conf`"
    return f"End all VMs. Write the option: {kept}. Load kvm_amd again: `modprobe -r kvm_amd && modprobe kvm_amd`."
