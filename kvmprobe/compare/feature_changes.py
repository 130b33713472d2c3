"""Changes of what the CPU and KVM can do, by raw CPUID, /proc/cpuinfo, KVM's ioctls, and what kvm_amd made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.difference import BETTER, CHANGED, NOT_COMPARABLE, SAME, WORSE, Difference, Side
from kvmprobe.compare.effect_changes import effects
from kvmprobe.model.cpu_lists import cpu_names, fold
from kvmprobe.model.own_errors import is_own_error
from kvmprobe.model.registers import CPUID_BITS, CPUID_HYPERVISOR, CPUINFO_FLAGS
from kvmprobe.model.values import HELD_ERRORS, error_of, is_failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Answer

_AREA = "features"
_HELD_NOTE = "where another owner has SVM, the answer is EBUSY, since 6.12 EIO"

# Neither an advantage nor a disadvantage. A check of its own reports that a kernel hides svm (since 6.7 with SVMDIS).
_NEUTRAL = (
    "raw CPUID hypervisor",
    "raw CPUID svm_lock",
    *(f"/proc/cpuinfo {flag}" for flag in ("hypervisor", "svm_lock", "svm", "vmx", "ept")),
)


def features(old: Side, new: Side) -> Iterator[Difference]:
    """The CPU and its hypervisor, each feature of raw CPUID and /proc/cpuinfo, each answer of KVM, and each feature of
    kvm_amd."""
    same_cpu = old.cpu() == new.cpu()
    if not same_cpu:
        was, now = (_cpu(side) for side in (old, new))
        note = "the features of different CPU models are neither worse nor better"
        yield Difference(_AREA, "CPU", NOT_COMPARABLE, was, now, note)
    yield from _identity(old, new, same_cpu)
    yield from _flags("raw CPUID", old, new, _cpuid_bit, CPUID_BITS, same_cpu)
    yield from _flags("/proc/cpuinfo", old, new, _cpuinfo_flag, sorted(CPUINFO_FLAGS), same_cpu)
    yield from _answers(old, new)
    yield from effects(old, new)


def _cpu(side: Side) -> str:
    vendor, *rest = side.cpu()
    if not rest:
        return vendor or "unknown"
    family, model, name = rest
    return f"{name} ({vendor}), family {family} model {model}"


def _identity(old: Side, new: Side, same_cpu: bool) -> Iterator[Difference]:
    was, now = (_hypervisor(side) for side in (old, new))
    rating = SAME if was == now else NOT_COMPARABLE if "unknown" in (was, now) else CHANGED
    yield Difference(_AREA, "hypervisor", rating, was, now)
    infos = [side.facts.first_cpuinfo() for side in (old, new)]
    if infos[0] and infos[1] and same_cpu:
        for field in ("stepping", "microcode"):
            was, now = (str(info[field]) if info else "" for info in infos)
            yield Difference(_AREA, field, SAME if was == now else CHANGED, was, now)
    was, now = (fold(side.facts.highest_extended()) for side in (old, new))
    is_unknown = any(None in side.facts.highest_extended().values() for side in (old, new))
    rating = SAME if was == now else NOT_COMPARABLE if is_unknown else CHANGED
    yield Difference(_AREA, "highest extended leaf", rating, was, now)


def _hypervisor(side: Side) -> str:
    bits = side.facts.cpuid_bit(CPUID_HYPERVISOR).values()
    is_unknown = None in bits or not bits
    return side.facts.hypervisor() or ("unknown" if is_unknown else "none")


def _cpuid_bit(side: Side, name: str) -> dict[int, bool | None]:
    return side.facts.cpuid_bit(CPUID_BITS[name])


def _cpuinfo_flag(side: Side, name: str) -> dict[int, bool | None]:
    infos = side.evidence["cpus"]["cpuinfo"]
    if is_failure(infos):
        return dict.fromkeys(side.facts.identified)
    found = {cpu: infos.get(str(cpu)) for cpu in side.facts.identified}
    return {cpu: name in info["flags"] if info and info["flags"] is not None else None for cpu, info in found.items()}


def _flags(
    source: str,
    old: Side,
    new: Side,
    read: Callable[[Side, str], dict[int, bool | None]],
    names: Iterable[str],
    same_cpu: bool,
) -> Iterator[Difference]:
    """Features that a CPU has or lacks, as `read` finds them by CPU. It is worse where the same CPU lost one."""
    unread: list[str] = []
    every = list(names)
    for name in every:
        states = [read(side, name) for side in (old, new)]
        was, now = map(_state, states)
        if "unknown" in (was, now):
            if was != now:
                unread.append(name)
            continue
        shares = [sum(map(bool, by_cpu.values())) / len(by_cpu) for by_cpu in states]
        if was == now:
            rating = SAME
        elif f"{source} {name}" in _NEUTRAL or not same_cpu:
            rating = CHANGED
        else:
            rating = BETTER if shares[1] > shares[0] else WORSE
        yield Difference(_AREA, f"{source} {name}", rating, was, now)
    if unread:
        was, now = ("not readable" if _state(read(side, unread[0])) == "unknown" else "read" for side in (old, new))
        note = "" if len(unread) == len(every) else ", ".join(unread)
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
        if None not in answers:  # the checks show why it was not called
            was, now = (_text(answer, name) for answer in answers)
            is_worse = name == "KVM_CREATE_VM" and was in HELD_ERRORS and _is_another_refusal(answers[1])
            rating = SAME if was == now else WORSE if is_worse else CHANGED
            yield Difference(_AREA, name, rating, was, now, _HELD_NOTE if is_worse else "")
    extensions: list[dict[str, Answer]] = [answer["KVM_CHECK_EXTENSION"] for answer in ioctls]
    if bool(extensions[0]) != bool(extensions[1]):
        was, now = ("called" if answers else "not called" for answers in extensions)
        yield Difference(_AREA, "KVM_CHECK_EXTENSION", NOT_COMPARABLE, was, now)
        return
    same_count = len(old.facts.cpus) == len(new.facts.cpus)
    for name in sorted({*extensions[0], *extensions[1]}):
        if name != "KVM_CAP_NR_VCPUS" or same_count:  # its answer is the number of CPUs
            yield _extension(name, extensions[0].get(name), extensions[1].get(name))


def _is_another_refusal(answer: Answer) -> bool:
    """Whether it is an error that user space does not expect where another owner has SVM."""
    error = error_of(answer)
    return error is not None and error not in HELD_ERRORS and not is_own_error("KVM_CREATE_VM", error)


def _extension(name: str, was: Answer, now: Answer) -> Difference:
    if was == now:
        rating = SAME
    elif not isinstance(was, int) or not isinstance(now, int):
        rating = NOT_COMPARABLE
    elif (was > 0) == (now > 0):
        rating = CHANGED  # a size, a mask or a limit
    else:
        rating = BETTER if now > 0 else WORSE
    return Difference(_AREA, name, rating, _text(was, name), _text(now, name))


def _text(answer: Answer, name: str) -> str:
    if answer is None:
        return "not called"
    if name == "KVM_CREATE_VM" and answer == 0:
        return "success"
    return error_of(answer) or str(answer)
