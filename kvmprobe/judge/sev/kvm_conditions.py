"""The conditions of kvm_amd: sev_hardware_setup() in arch/x86/kvm/svm/sev.c, in its order."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.causes.steps import FIRMWARE_SETUP, LOAD, REBOOT
from kvmprobe.judge.check_result import FAIL
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.sev.sev_readings import NO, asids, cpuid_bit, parameter, register, turned_off
from kvmprobe.judge.sev.sev_step import LEVELS, SEV, SEV_ES, SEV_SNP, SevStep, StepAnswer, failed, met, unknown
from kvmprobe.model.registers import CPUID_BITS, SYSCFG

if TYPE_CHECKING:
    from typing import Callable

_OF_ES = (SEV_ES, SEV_SNP)
_SETUP = "sev_hardware_setup()"
_RELOAD = ("Then load kvm_amd again, with no VM running:", "# modprobe -r kvm_amd", *LOAD)
_ASID_SETUP = (
    *FIRMWARE_SETUP,
    (
        "Set 'SEV-ES ASID Space Limit Control' to Manual and 'SEV-ES ASID Space Limit' (AMD CBS, CPU Common Options; "
        "other name: 'Minimum SEV non-ES ASID') to {limit}."
    ),
)


_REFUSED = ("kvm_amd could not be loaded: the verdict about SVM states why, and what to do.",)


def is_loaded(facts: Facts) -> StepAnswer:
    """kvm_amd is loaded."""
    if facts.has_kvm_amd is None:
        return unknown("the modules are not known")
    if facts.has_kvm_amd:
        return met("kvm_amd is loaded")
    refused = [attempt for attempt in facts.evidence["loads"] if attempt["module"] == "kvm_amd" and attempt["status"]]
    because = ["/sys/module/kvm_amd: does not exist", *(f"modprobe: {attempt['output']}" for attempt in refused[-1:])]
    return failed("kvm_amd is not loaded", because, _REFUSED if refused else None)


def has_code(facts: Facts) -> StepAnswer:
    """The parameter sev, which exists with CONFIG_KVM_AMD_SEV."""
    module = facts.modules.get("kvm_amd")
    if not module or not module["parameters"]:
        return unknown("the parameters of kvm_amd are not known")
    if "sev" in module["parameters"]:
        return met("kvm_amd has the code for SEV guests")
    return failed("kvm_amd was built without SEV", ["kvm_amd has no parameter sev"])


def _not_turned_off(name: str) -> Callable[[Facts], StepAnswer]:
    """The question whether nobody turned a parameter of kvm_amd off. Its value after loading is also N where the
    kernel itself decided against it, so only a setting counts."""

    def ask(facts: Facts) -> StepAnswer:
        value = parameter(facts, "kvm_amd", name)
        settings = turned_off(facts, "kvm_amd", name)
        if settings and value not in ("Y", "1"):
            text, where = settings[-1]
            return failed(f"kvm_amd.{name} is turned off", [f"{where}: {text}"], where=where, setting=text)
        known = value is not None or facts.evidence.get("command_line") is not None
        return met(f"no setting turns kvm_amd.{name} off") if known else unknown(f"kvm_amd.{name} is not known")

    return ask


def _on(module: str, name: str) -> Callable[[Facts], StepAnswer]:
    """The question whether a parameter that SEV needs is on."""

    def ask(facts: Facts) -> StepAnswer:
        value = parameter(facts, module, name)
        if value is None:
            return unknown(f"{module}.{name} is not known")
        shown = f"{module}.{name} = {value}"
        return failed(f"{module}.{name} is off", [shown]) if value in NO else met(shown)

    return ask


def has_assists(facts: Facts) -> StepAnswer:
    """The CPU has decode assists and can flush by ASID, which every CPU with SEV does."""
    answers = [cpuid_bit(facts, CPUID_BITS[bit], bit) for bit in ("decodeassists", "flushbyasid")]
    return next((answer for answer in answers if answer.status == FAIL), answers[0])


def has_asids(facts: Facts) -> StepAnswer:
    """CPUID 0x8000001F ECX is not 0."""
    found = asids(facts)
    if found is None:
        return unknown("CPUID 0x8000001F is not known")
    if found[0] == 0:
        return failed("the firmware gives encrypted guests no ASID", ["CPUID 0x8000001F ECX = 0"])
    return met(f"the highest ASID of an encrypted guest is {found[0]}")


def has_sev_asids(facts: Facts) -> StepAnswer:
    """CPUID 0x8000001F EDX is not above ECX: some ASIDs are left for guests that are not SEV-ES."""
    found = asids(facts)
    if found is None:
        return unknown("CPUID 0x8000001F is not known")
    highest, lowest = found
    if highest == 0:
        return unknown("there are no ASIDs of encrypted guests")
    if lowest > highest:
        because = [f"CPUID 0x8000001F ECX = {highest}, EDX = {lowest}"]
        return failed("the firmware gives all ASIDs to SEV-ES", because, limit=f"{highest} or less")
    return met(f"ASIDs {lowest} to {highest} are for SEV")


def has_es_asids(facts: Facts) -> StepAnswer:
    """CPUID 0x8000001F EDX is above 1: some ASIDs are for SEV-ES."""
    found = asids(facts)
    if found is None:
        return unknown("CPUID 0x8000001F is not known")
    highest, lowest = found
    if lowest > 1:
        return met(f"ASIDs 1 to {lowest - 1} are for SEV-ES and SEV-SNP")
    because = [f"CPUID 0x8000001F EDX = {lowest}: the lowest ASID of a guest that is not SEV-ES"]
    return failed("the firmware gives SEV-ES no ASID", because, limit=_share(highest))


def _share(highest: int) -> str:
    """What to enter for the limit: it has to be above 1, and the ASIDs from it on are those of SEV."""
    return "100" if highest > 100 else f"a number from 2 to {max(highest, 2)}"


def _was_loaded_off(name: str) -> Callable[[Facts], StepAnswer]:
    """The question whether kvm_amd's parameter is on, where everything else is in order."""

    def ask(facts: Facts) -> StepAnswer:
        value = parameter(facts, "kvm_amd", name)
        if value in NO:
            because = [f"kvm_amd.{name} = {value}", "no other condition fails"]
            return failed(f"kvm_amd was loaded with {name} off", because)
        return unknown(f"kvm_amd.{name} is not known") if value is None else met(f"kvm_amd.{name} = {value}")

    return ask


def snp_enabled(facts: Facts) -> StepAnswer:
    """SYSCFG.SNP_EN is 1. Older kernels set it at boot, newer ones just before SNP_INIT."""
    bits = [SYSCFG.bit(value, "SNP_EN") for value in register(facts, SYSCFG).values() if value is not None]
    if not bits:
        return unknown("SYSCFG.SNP_EN is not known")
    if any(bits):
        return met("the kernel has set SYSCFG.SNP_EN")
    return failed("the kernel has not enabled SNP", ["SYSCFG.SNP_EN = 0 on every CPU, and no other condition fails"])


# Since 5.13 both are on by default. sev_snp, which came with 6.11, always was.
_SINCE = dict.fromkeys(("sev", "sev_es"), " Kernels before 5.13 have it off by default.")


def _parameter_steps(name: str, levels: tuple[str, ...], title: str) -> tuple[SevStep, SevStep]:
    """The rows of one parameter of kvm_amd: turned off by a setting, and off without one."""
    return (
        SevStep(
            f"{title}-parameter-off",
            levels,
            f"The kernel's command line or modprobe's configuration turns kvm_amd.{name} off.",
            _SETUP,
            _not_turned_off(name),
            ("Remove '{setting}' ({where}).", *_RELOAD),
            built_in=("Remove '{setting}' ({where}), and reboot:", REBOOT[-1]),
        ),
        SevStep(
            f"{title}-loaded-off",
            levels,
            f"kvm_amd was loaded with {name} off, and every other condition is met.{_SINCE.get(name, '')}",
            _SETUP,
            _was_loaded_off(name),
            (
                "Load kvm_amd with the parameter on, with no VM running:",
                "# modprobe -r kvm_amd",
                f"# modprobe kvm_amd {name}=1",
                f"To keep it, add kvm_amd.{name}=1 to the kernel's command line.",
            ),
            is_last_resort=True,
            built_in=(f"Add kvm_amd.{name}=1 to the kernel's command line, and reboot:", REBOOT[-1]),
        ),
    )


def _needed(name: str, module: str, parameter_name: str, levels: tuple[str, ...], why: str) -> SevStep:
    """The row of a parameter that SEV needs."""
    return SevStep(
        name,
        levels,
        f"{module}.{parameter_name} is off. {why}",
        _SETUP,
        _on(module, parameter_name),
        (
            f"Remove {module}.{parameter_name}=0 from the kernel's command line and from /etc/modprobe.d.",
            *(
                ("Then load the modules again, with no VM running:", "# modprobe -r kvm_amd kvm", *LOAD)
                if module == "kvm"
                else _RELOAD
            ),
        ),
        built_in=(f"Remove {module}.{parameter_name}=0 from the kernel's command line, and reboot:", REBOOT[-1]),
    )


_SEV_ROWS = _parameter_steps("sev", LEVELS, "sev")
_ES_ROWS = _parameter_steps("sev_es", _OF_ES, "sev-es")
_SNP_ROWS = _parameter_steps("sev_snp", (SEV_SNP,), "sev-snp")

STEPS = (
    SevStep(
        "sev-kvm-amd-not-loaded",
        LEVELS,
        "Everything before it is in order, and kvm_amd is not loaded.",
        "svm_init()",
        is_loaded,
        ("Load the module:", *LOAD),
    ),
    SevStep(
        "sev-kernel-lacks",
        LEVELS,
        "kvm_amd was built without SEV (CONFIG_KVM_AMD_SEV).",
        "CONFIG_KVM_AMD_SEV",
        has_code,
        ("Install a kernel with CONFIG_KVM_AMD_SEV=y and CONFIG_CRYPTO_DEV_SP_PSP=y, and boot it.",),
    ),
    _SEV_ROWS[0],
    _needed("sev-npt-off", "kvm_amd", "npt", LEVELS, "SEV needs nested paging."),
    _needed("sev-nrips-off", "kvm_amd", "nrips", LEVELS, "SEV needs the address of the next instruction."),
    SevStep(
        "sev-cpu-lacks-assists",
        LEVELS,
        "CPUID shows no decode assists, or no flush by ASID. Every CPU with SEV has both; a hypervisor may hide them.",
        _SETUP,
        has_assists,
        ("Use bare metal, or a hypervisor that offers decode assists and flush by ASID.",),
    ),
    SevStep(
        "sev-no-asids",
        LEVELS,
        "CPUID 0x8000001F ECX is 0: the firmware gives encrypted guests no ASID.",
        _SETUP,
        has_asids,
        (
            *FIRMWARE_SETUP,
            "Set 'SEV ASID Count' (AMD CBS, CPU Common Options) to its highest value.",
            "If there is no such entry, update the firmware.",
        ),
    ),
    SevStep(
        "sev-asids-all-es",
        (SEV,),
        "CPUID 0x8000001F EDX is above ECX: the firmware gives all ASIDs to SEV-ES and SEV-SNP, and none is left for "
        'SEV alone. kvm_amd logs "SEV unusable".',
        _SETUP,
        has_sev_asids,
        _ASID_SETUP,
        {"limit": "a smaller number"},
        beats_kvm=True,
    ),
    _ES_ROWS[0],
    _needed(
        "sev-es-mmio-caching-off", "kvm", "mmio_caching", _OF_ES, "SEV-ES needs it to give MMIO accesses to the guest."
    ),
    _needed("sev-es-lbrv-off", "kvm_amd", "lbrv", _OF_ES, "SEV-ES needs LBR virtualization (since 6.10)."),
    SevStep(
        "sev-es-no-asids",
        _OF_ES,
        "CPUID 0x8000001F EDX is 1: the firmware gives all ASIDs to SEV, and none to SEV-ES and SEV-SNP. This is the "
        "default of most firmware.",
        _SETUP,
        has_es_asids,
        _ASID_SETUP,
        {"limit": "100"},
    ),
    _SNP_ROWS[0],
    _SEV_ROWS[1],
    _ES_ROWS[1],
    SevStep(
        "sev-snp-not-enabled",
        (SEV_SNP,),
        "The kernel has not set SYSCFG.SNP_EN, and no other condition fails.",
        "snp_prepare()",
        snp_enabled,
        ("Read the kernel's log from the boot: `dmesg | grep -i -e snp -e rmp -e ccp`.",),
        is_last_resort=True,
    ),
    _SNP_ROWS[1],
)
