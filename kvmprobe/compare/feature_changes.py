"""What changed in what CPU and KVM can do: raw CPUID, /proc/cpuinfo, KVM's own answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE, Difference, Side
from kvmprobe.model.cpu_lists import cpu_names, fold
from kvmprobe.model.registers import (
    CPUID_HYPERVISOR,
    CPUID_SVM,
    CPUINFO_FLAGS,
    LEAF_MEMORY_ENCRYPTION,
    LEAF_SVM,
    CpuidBit,
)
from kvmprobe.model.values import error_of, is_failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Answer

_AREA = "features"
_EAX, _EDX = 0, 3

# APM volume 3, appendix E.4, with the names of arch/x86/include/asm/cpufeatures.h.
_SVM_FEATURES = {
    0: "npt",
    1: "lbrv",
    2: "svm_lock",
    3: "nrip_save",
    4: "tsc_scale",
    5: "vmcb_clean",
    6: "flushbyasid",
    7: "decodeassists",
    10: "pausefilter",
    12: "pfthreshold",
    13: "avic",
    15: "v_vmsave_vmload",
    16: "vgif",
    18: "x2avic",
    20: "v_spec_ctrl",
    25: "vnmi",
    28: "svme_addr_chk",
}
_ENCRYPTION = {0: "sme", 1: "sev", 3: "sev_es", 4: "sev_snp"}

_BITS = {
    "svm": CPUID_SVM,
    **{name: CpuidBit(LEAF_SVM, _EDX, bit) for bit, name in _SVM_FEATURES.items()},
    **{name: CpuidBit(LEAF_MEMORY_ENCRYPTION, _EAX, bit) for bit, name in _ENCRYPTION.items()},
    "hypervisor": CPUID_HYPERVISOR,
}

# No merit and no lack; and that a kernel hides svm (since 6.12 with SVMDIS) has a check of its own.
_NEUTRAL = (
    "raw CPUID hypervisor",
    "raw CPUID svm_lock",
    *(f"/proc/cpuinfo {flag}" for flag in ("hypervisor", "svm_lock", "svm", "vmx", "ept")),
)


def features(old: Side, new: Side) -> Iterator[Difference]:
    same_cpu = old.cpu() == new.cpu()
    if not same_cpu:
        was, now = (_cpu(side) for side in (old, new))
        yield Difference(_AREA, "CPU", NOT_COMPARABLE, was, now, "another CPU: other features are its own")
    yield from _identity(old, new, same_cpu)
    yield from _flags("raw CPUID", old, new, lambda side, name: side.facts.cpuid_bit(_BITS[name]), _BITS, same_cpu)
    yield from _flags("/proc/cpuinfo", old, new, _cpuinfo_flag, dict.fromkeys(sorted(CPUINFO_FLAGS)), same_cpu)
    yield from _answers(old, new)


def _cpu(side: Side) -> str:
    vendor, *rest = side.cpu()
    if not rest:
        return vendor or "unknown"
    family, model, name = rest
    return f"{name} ({vendor}), family {family} model {model}"


def _identity(old: Side, new: Side, same_cpu: bool) -> Iterator[Difference]:
    was, now = (_hypervisor(side) for side in (old, new))
    rating = SAME if was == now else NOT_COMPARABLE if "unknown" in (was, now) else CHANGED
    yield Difference(_AREA, "hypervisor below", rating, was, now)
    infos = [side.facts.first_cpuinfo() for side in (old, new)]
    if infos[0] and infos[1] and same_cpu:
        for field, name in (("stepping", "stepping"), ("microcode", "microcode")):
            was, now = (str(info[field]) if info else "" for info in infos)  # type: ignore[literal-required]
            yield Difference(_AREA, name, SAME if was == now else CHANGED, was, now)
    was, now = (fold(side.facts.highest_extended()) for side in (old, new))
    unknown = any(None in side.facts.highest_extended().values() for side in (old, new))
    rating = SAME if was == now else NOT_COMPARABLE if unknown else CHANGED
    yield Difference(_AREA, "highest extended leaf", rating, was, now)


def _hypervisor(side: Side) -> str:
    unknown = None in side.facts.cpuid_bit(CPUID_HYPERVISOR).values()
    return side.facts.hypervisor() or ("unknown" if unknown else "none")


def _cpuinfo_flag(side: Side, name: str) -> dict[int, bool | None]:
    infos = side.evidence["cpus"]["cpuinfo"]
    if is_failure(infos):
        return dict.fromkeys(side.facts.cpus)
    found = {cpu: infos.get(str(cpu)) for cpu in side.facts.cpus}
    return {cpu: name in i["flags"] if i and i["flags"] is not None else None for cpu, i in found.items()}


def _flags(
    source: str,
    old: Side,
    new: Side,
    read: Callable[[Side, str], dict[int, bool | None]],
    names: dict[str, CpuidBit] | dict[str, None],
    same_cpu: bool,
) -> Iterator[Difference]:
    """Features that are there or not. What the same CPU had and has no more is worse."""
    unread: list[str] = []
    for name in names:
        states = [read(side, name) for side in (old, new)]
        was, now = map(_state, states)
        if "unknown" in (was, now):
            if was != now:
                unread.append(name)
            continue
        counts = [sum(map(bool, by_cpu.values())) / len(by_cpu) for by_cpu in states]
        rating = (
            CHANGED if f"{source} {name}" in _NEUTRAL or not same_cpu else BETTER if counts[1] > counts[0] else WORSE
        )
        yield Difference(_AREA, f"{source} {name}", SAME if was == now else rating, was, now)
    if unread:
        known = [_state(read(side, unread[0])) != "unknown" for side in (old, new)]
        was, now = ("read" if side_known else "not readable" for side_known in known)
        note = "" if len(unread) == len(names) else ", ".join(unread)
        yield Difference(_AREA, source, NOT_COMPARABLE, was, now, note)


def _state(by_cpu: dict[int, bool | None]) -> str:
    states = set(by_cpu.values())
    if None in states or not states:
        return "unknown"
    if len(states) == 1:
        return "yes" if states == {True} else "no"
    return f"on {cpu_names(cpu for cpu, state in by_cpu.items() if state)} only"


def _answers(old: Side, new: Side) -> Iterator[Difference]:
    ioctls = [side.evidence["ioctls"] for side in (old, new)]
    for name in ("KVM_GET_API_VERSION", "KVM_CREATE_VM"):
        answers = [answer[name] for answer in ioctls]
        if None not in answers:  # where it was not asked, the checks say why
            was, now = (_show(answer, name) for answer in answers)
            yield Difference(_AREA, name, SAME if was == now else CHANGED, was, now)
    extensions: list[dict[str, Answer]] = [answer["KVM_CHECK_EXTENSION"] for answer in ioctls]
    if bool(extensions[0]) != bool(extensions[1]):
        was, now = ("asked" if asked else "not asked" for asked in extensions)
        yield Difference(_AREA, "KVM_CHECK_EXTENSION", NOT_COMPARABLE, was, now)
        return
    one_count = len(old.facts.cpus) == len(new.facts.cpus)
    for name in sorted({*extensions[0], *extensions[1]}):
        if name != "KVM_CAP_NR_VCPUS" or one_count:  # KVM recommends as many as there are CPUs
            yield _extension(name, extensions[0].get(name), extensions[1].get(name))


def _extension(name: str, was: Answer, now: Answer) -> Difference:
    if was == now:
        rating = SAME
    elif not isinstance(was, int) or not isinstance(now, int):
        rating = NOT_COMPARABLE
    elif (was > 0) == (now > 0):
        rating = CHANGED  # sizes, masks and limits
    else:
        rating = BETTER if now > 0 else WORSE
    return Difference(_AREA, name, rating, _show(was, name), _show(now, name))


def _show(answer: Answer, name: str) -> str:
    if answer is None:
        return "not asked"
    if name == "KVM_CREATE_VM" and answer == 0:
        return "a VM"
    return error_of(answer) or str(answer)
