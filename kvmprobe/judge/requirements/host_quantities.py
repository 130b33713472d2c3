"""Quantities of the host: CPUs, microcode, kernel."""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.requirements.kernel_release import LATEST, parse_limit, possible_versions
from kvmprobe.judge.requirements.quantity import Measurement, Quantity
from kvmprobe.model.cpu_lists import fold
from kvmprobe.model.printable import counted
from kvmprobe.model.values import as_int

if TYPE_CHECKING:
    from kvmprobe.judge.facts import Facts

_PROBE_AGAIN = "Run `kvmprobe` of this version on the host again, with root's rights."
_OWN_PATCH_LEVEL = "Give a patch level of the same CPU model: `grep microcode /proc/cpuinfo` shows the present one."


def count(text: str) -> int:
    """A number of things: digits. Raises ValueError."""
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError("the limit is not a number such as 64")
    return int(text)


def _patch_level(text: str) -> int:
    """A microcode patch level, as /proc/cpuinfo has it. Raises ValueError."""
    if not re.fullmatch("0[xX][0-9a-fA-F]{1,8}", text):
        raise ValueError("the limit is not a patch level such as 0x0A201210")
    return int(text, 16)


def _cpus(facts: Facts, _: int) -> Measurement:
    number = len(facts.cpus)
    if facts.online_is_known:
        return Measurement([(number, number)], f"{counted(number, 'CPU')} online")
    return Measurement([], f"how many CPUs are online is unknown; {number} were found")


def _microcode(facts: Facts, limit: int) -> Measurement:
    """Of each CPU the patch level; any value where it is unknown, or of another CPU model than the limit."""
    levels = {cpu: _level(facts, cpu) for cpu in facts.cpus}
    text = f"microcode {fold({cpu: level and f'0x{level:08x}' for cpu, level in levels.items()})}" if levels else ""
    anything = (-1, 1 << 32)
    values = [
        (level, level) if level is not None and _series(level) == _series(limit) else anything
        for level in levels.values()
    ]
    if any(level is not None and _series(level) != _series(limit) for level in levels.values()):
        return Measurement(values, f"{text}, and 0x{limit:08x} is of another CPU model", _OWN_PATCH_LEVEL)
    return Measurement(values, text or "no CPU is known")


def _level(facts: Facts, cpu: int) -> int | None:
    infos = facts.evidence["cpus"]["cpuinfo"]
    info = infos.get(str(cpu))
    return as_int(info.get("microcode")) if isinstance(info, dict) else None


def _series(level: int) -> int:
    """The part of a patch level that differs between CPU models.

    Since family 0x17 its bytes are extended family, models, model and stepping, revision (union zen_patch_rev in
    arch/x86/kernel/cpu/microcode/amd.c). From family 0x14 to 0x16, too, all but the last byte belongs to one model:
    0x0600063e, 0x06000852 and 0x06001119 are of the models 0x01, 0x02 and 0x10 of family 0x15 (amd-ucode/README of
    linux-firmware). Those of the families 0x10 to 0x12 show the family alone.
    """
    return level >> 8


def _kernel(facts: Facts, _: tuple[int, ...]) -> Measurement:
    kernel = facts.evidence["kernel"]
    versions = possible_versions(kernel["release"], kernel["version"])
    text = f"Linux {kernel['release']}"
    if versions is None:
        return Measurement([], f"{text} is no version that can be compared")
    lowest, highest = versions
    if lowest != highest:
        text += ", whose name does not show the stable release" if highest[2] == LATEST else ""
    return Measurement([versions], text)


HOST_QUANTITIES = (
    Quantity(
        "cpus",
        "how many CPUs are online",
        "cpus>=64",
        count,
        _cpus,
        "Choose another host, or see which CPUs are offline: `cat /sys/devices/system/cpu/offline`.",
        _PROBE_AGAIN,
    ),
    Quantity(
        "microcode",
        "the microcode of every CPU, as /proc/cpuinfo shows it; patch levels of one CPU model are compared",
        "microcode>=0x0A201210",
        _patch_level,
        _microcode,
        "Install the newest firmware and microcode package of the distribution, and reboot.",
        "See whether the kernel shows it: `grep microcode /proc/cpuinfo`. If it does, run `kvmprobe` of this version "
        "again. In a VM the hypervisor outside may hide it: ask its operator for that of the host.",
    ),
    Quantity(
        "kernel",
        "the version of Linux; 6.12 is 6.12.0, and 6.12-rc7 comes before it",
        "kernel>=6.12",
        parse_limit,
        _kernel,
        "Boot another kernel.",
        "Compare with the first two numbers of the version alone, such as kernel>=6.12.",
    ),
)
