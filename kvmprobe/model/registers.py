"""The registers and CPUID leaves that decide whether SVM can be used, each described once.

Sources: AMD64 Architecture Programmer's Manual (APM) volume 2, sections 3.1.7, 15.4, 15.30, 15.34; the kernel's
`arch/x86/include/asm/msr-index.h` and `cpufeatures.h`.
"""

from __future__ import annotations

from collections.abc import Mapping

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.values import as_int

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Leaf


class Register:
    """A model-specific register: its kernel name without `MSR_`, its number, and its bits by name."""

    def __init__(self, name: str, number: int, bits: Mapping[str, int]) -> None:
        self.name = name
        self.number = number
        self.bits = bits

    def bit(self, value: int, bit: str) -> bool:
        """One bit of a value, by its name."""
        return bool(value >> self.bits[bit] & 1)

    def bit_of(self, reading: object, bit: str) -> bool | None:
        """One bit of a reading in evidence ("0x1d01"), by its name; None for what could not be read."""
        value = as_int(reading)
        return None if value is None else self.bit(value, bit)


EFER = Register("EFER", 0xC0000080, {"SVME": 12})
VM_CR = Register("VM_CR", 0xC0010114, {"LOCK": 3, "SVMDIS": 4})
VM_HSAVE_PA = Register("VM_HSAVE_PA", 0xC0010117, {})
SEV_STATUS = Register("SEV_STATUS", 0xC0010131, {"SEV": 0, "SEV_ES": 1, "SEV_SNP": 2})

# Of memory encryption, read with --sev alone (APM volume 2, sections 15.34.3 and 15.36.4 to 15.36.6).
SYSCFG = Register("SYSCFG", 0xC0010010, {"MEM_ENCRYPT": 23, "SNP_EN": 24})
HWCR = Register("HWCR", 0xC0010015, {"SMMLOCK": 0})
RMP_BASE = Register("RMP_BASE", 0xC0010132, {})
RMP_END = Register("RMP_END", 0xC0010133, {})
RMP_CFG = Register("RMP_CFG", 0xC0010136, {"SEG_RMP_ENABLED": 0})

# Read on every CPU for every snapshot. SVM_KEY (0xC0010118) is for writing only: kvmprobe never touches it.
SNAPSHOT_REGISTERS = (EFER, VM_CR, VM_HSAVE_PA)


def svme(reading: object) -> bool | None:
    """EFER.SVME in a reading of EFER; None where EFER could not be read."""
    return EFER.bit_of(reading, "SVME")


class CpuidBit:
    """One bit of a CPUID leaf; `register` is the index in (EAX, EBX, ECX, EDX), `bit` counts from 0."""

    def __init__(self, leaf: int, register: int, bit: int) -> None:
        self.leaf = leaf
        self.register = register
        self.bit = bit


LEAF_VENDOR = 0x0
LEAF_FEATURES = 0x1
LEAF_HYPERVISOR = 0x40000000
LEAF_HIGHEST_EXTENDED = 0x80000000
LEAF_EXTENDED_FEATURES = 0x80000001
LEAF_ADDRESS_SIZES = 0x80000008
LEAF_SVM = 0x8000000A
LEAF_MEMORY_ENCRYPTION = 0x8000001F

LEAVES = (
    LEAF_VENDOR,
    LEAF_FEATURES,
    LEAF_HYPERVISOR,
    LEAF_HIGHEST_EXTENDED,
    LEAF_EXTENDED_FEATURES,
    LEAF_ADDRESS_SIZES,
    LEAF_SVM,
    LEAF_MEMORY_ENCRYPTION,
)

# The leaves with features that KVM uses: the kernel keeps the bits that every CPU has (identify_cpu() in
# arch/x86/kernel/cpu/common.c).
FEATURE_LEAVES = (LEAF_EXTENDED_FEATURES, LEAF_ADDRESS_SIZES, LEAF_SVM, LEAF_MEMORY_ENCRYPTION)

CPUID_REGISTERS = ("EAX", "EBX", "ECX", "EDX")
_EAX, _ECX, _EDX = 0, 2, 3

# APM volume 3, appendix E.4: leaf 0x8000000A EDX.
_SVM_FEATURES = {
    "npt": 0,
    "lbrv": 1,
    "svm_lock": 2,
    "nrip_save": 3,
    "tsc_scale": 4,
    "vmcb_clean": 5,
    "flushbyasid": 6,
    "decodeassists": 7,
    "pausefilter": 10,
    "pfthreshold": 12,
    "avic": 13,
    "v_vmsave_vmload": 15,
    "vgif": 16,
    "gmet": 17,
    "x2avic": 18,
    "v_spec_ctrl": 20,
    "vnmi": 25,
    "svme_addr_chk": 28,
}
# APM volume 3, appendix E.4: leaf 0x8000001F EAX.
_ENCRYPTION = {"sme": 0, "sev": 1, "sev_es": 3, "sev_snp": 4}

# The bits of CPUID that bear on SVM, with the kernel's names for them (arch/x86/include/asm/cpufeatures.h).
CPUID_BITS = {
    "svm": CpuidBit(LEAF_EXTENDED_FEATURES, _ECX, 2),
    **{name: CpuidBit(LEAF_SVM, _EDX, bit) for name, bit in _SVM_FEATURES.items()},
    **{name: CpuidBit(LEAF_MEMORY_ENCRYPTION, _EAX, bit) for name, bit in _ENCRYPTION.items()},
    "hypervisor": CpuidBit(LEAF_FEATURES, _ECX, 31),
}
CPUID_HYPERVISOR = CPUID_BITS["hypervisor"]
CPUID_SVM = CPUID_BITS["svm"]
CPUID_SVML = CPUID_BITS["svm_lock"]
CPUID_SEV = CPUID_BITS["sev"]
CPUID_SNP = CPUID_BITS["sev_snp"]
CPUID_SEGMENTED_RMP = CpuidBit(LEAF_MEMORY_ENCRYPTION, _EAX, 23)

# The registers of memory encryption, and the bits of CPUID of which one has to be set where they exist: the kernel
# reads them under the same conditions (early_detect_mem_encrypt() in arch/x86/kernel/cpu/amd.c,
# snp_probe_rmptable_info() in arch/x86/virt/svm/sev.c).
SEV_REGISTERS = (
    (SYSCFG, (CPUID_BITS["sme"], CPUID_SEV)),
    (HWCR, (CPUID_BITS["sme"], CPUID_SEV)),
    (RMP_BASE, (CPUID_SNP,)),
    (RMP_END, (CPUID_SNP,)),
    (RMP_CFG, (CPUID_SEGMENTED_RMP,)),
)


def has_bit(leaves: Mapping[str, Leaf], bit: CpuidBit) -> bool | None:
    """One bit of CPUID; None where its leaf could not be read; False where its extended leaf is above the highest."""
    highest = word(leaves, LEAF_HIGHEST_EXTENDED, 0)
    value = word(leaves, bit.leaf, bit.register)
    if bit.leaf > LEAF_HIGHEST_EXTENDED and highest is not None and highest < bit.leaf:
        return False  # above its highest leaf a processor answers with another leaf's data
    if value is None or (bit.leaf > LEAF_HIGHEST_EXTENDED and highest is None):
        return None
    return bool(value >> bit.bit & 1)


def word(leaves: Mapping[str, Leaf], leaf: int, register: int) -> int | None:
    """One of EAX, EBX, ECX, EDX (0 to 3) of a leaf; None where it could not be read."""
    words = leaves.get(hex(leaf))
    return as_int(words[register]) if isinstance(words, list) and len(words) == 4 else None


# The flags of /proc/cpuinfo that bear on virtualization (arch/x86/include/asm/cpufeatures.h).
CPUINFO_FLAGS = frozenset(
    "svm vmx hypervisor npt lbrv svm_lock nrip_save avic vgif vnmi x2avic sme sev sev_es sev_snp ept".split()
)
# More of them, in a list of their own (`svm_flags`): in evidence of older versions their absence shows nothing.
CPUINFO_SVM_FLAGS = frozenset(
    "tsc_scale vmcb_clean flushbyasid decodeassists pausefilter pfthreshold v_vmsave_vmload v_spec_ctrl".split()
)

# Those about the TSC: it ticks at one rate (constant_tsc), also in deep sleep (nonstop_tsc).
CLOCK_FLAGS = frozenset(("constant_tsc", "nonstop_tsc"))


# Signatures in CPUID 0x40000000 that people do not read at once (Documentation/virt/kvm/x86/cpuid.rst). "Microsoft Hv"
# stays as it is: KVM can show it, too.
_HYPERVISORS = {
    "KVMKVMKVM": "KVM",
    "Linux KVM Hv": "KVM",
    "TCGTCGTCGTCG": "QEMU's TCG",
    "VMwareVMware": "VMware",
    "VBoxVBoxVBox": "VirtualBox",
    "XenVMMXenVMM": "Xen",
}


def hypervisor_name(signature: str) -> str:
    """The usual name of a hypervisor, by its signature; the signature itself where it is not known."""
    return _HYPERVISORS.get(signature, signature)
