"""kvm_amd is not there because its file, modprobe or the right to use them is missing."""

from __future__ import annotations

import re

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.containers import give_device
from kvmprobe.judge.causes.packages import install_kmod, install_module
from kvmprobe.judge.causes.quotes import container, is_root, is_wsl, module_files
from kvmprobe.judge.causes.steps import LOAD, LOAD_AGAIN
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import answer_of_modprobe, attempt_to_load

_ABSENT = ("kvm-amd-not-loaded", "kvm-amd-load-failed", "msr-unreadable")
_NOT_FOUND = re.compile(r"Module (\S+) not found in directory (\S+)")
_NO_INDEX = re.compile(r"could not (?:open|search) mod(?:dep|ules)|modules\.dep")


def _folder(facts: Facts) -> str:
    return f"/lib/modules/{facts.evidence['kernel']['release']}"


def _kvm_amd_was_looked_for(facts: Facts) -> bool:
    """Without kvm_amd in /sys/module, where its file is matters."""
    return facts.has_kvm_amd is False


def in_container(facts: Facts) -> Found | None:
    kind = container(facts)
    if kind is None or not _kvm_amd_was_looked_for(facts):
        return None
    steps = give_device(facts)
    return Found([f"kvmprobe ran in a container ({kind})"], (*_LOAD_ON_HOST, *steps) if steps else None)


_LOAD_ON_HOST = ("On the host, outside the container, load kvm_amd:", "$ sudo modprobe kvm_amd")
# Windows brings WSL's kernel, and its modules in a disk of their own.
_WSL = (
    "Windows brings the kernel of WSL and its modules. In PowerShell, update and stop WSL; its next start uses them:",
    "$ wsl --update",
    "$ wsl --shutdown",
    "For a kernel of your own (kernel= in .wslconfig), build it with CONFIG_KVM_AMD=y.",
)


def gone(facts: Facts) -> Found | None:
    if not _kvm_amd_was_looked_for(facts):
        return None
    files = module_files(facts)
    if files is not None:
        if files["folder"] is not False:
            return None
        steps = _WSL if is_wsl(facts) else None
        return Found([f"{_folder(facts)} does not exist"], steps, folder=_folder(facts))
    # Older evidence: where modprobe finds none of several modules, msr included, their folder is gone.
    missing = {match.group(1) for load in facts.evidence["loads"] if (match := _NOT_FOUND.search(load["output"]))}
    if "msr" not in missing or len(missing) < 2 or (attempt_to_load(facts) and "kvm_amd" not in missing):
        return None
    others = [load["output"] for load in facts.evidence["loads"] if load["status"] and load["module"] != "kvm_amd"]
    return Found([f"modprobe: {output.removeprefix('modprobe: ')}" for output in others], folder=_folder(facts))


def index_missing(facts: Facts) -> Found | None:
    if not _kvm_amd_was_looked_for(facts):
        return None
    files = module_files(facts)
    if files is None:
        return Found([]) if _NO_INDEX.search(answer_of_modprobe(facts)) else None
    if files["folder"] is not True or files["index"] is not False:
        return None
    return Found([f"{_folder(facts)}/modules.dep does not exist"])


def not_installed(facts: Facts) -> Found | None:
    if not _kvm_amd_was_looked_for(facts):
        return None
    files = module_files(facts)
    if files is not None:
        if files["index"] is not True or files["kvm_amd"] is not None:
            return None
        quoted = [f"{_folder(facts)}/modules.dep does not list kvm_amd"]
        return Found(quoted, _other_packages(facts), folder=_folder(facts))
    if not _NOT_FOUND.search(answer_of_modprobe(facts)):
        return None
    return Found([], _other_packages(facts), folder=_folder(facts))


def _other_packages(facts: Facts) -> tuple[str, ...] | None:
    """The steps of "module-not-installed" where the kernel's release shows the distribution."""
    if is_wsl(facts):
        return _WSL
    install = install_module(facts)
    if install is None:
        return None
    return (*_NOT_INSTALLED, "Else install the packages with the running kernel's modules:", *install, *_OR_NOT_BUILT)


_NOT_INSTALLED = (
    "{folder} has no kvm_amd. If an update replaced the kernel since the last boot, reboot:",
    "# systemctl reboot",
)
_OR_NOT_BUILT = (
    *LOAD_AGAIN,
    "Where no package has kvm_amd, the kernel was built without CONFIG_KVM_AMD: boot another kernel.",
)


def no_loadable_modules(facts: Facts) -> Found | None:
    attempt = attempt_to_load(facts)
    if attempt is None or attempt["status"] is not None or "no loadable modules" not in attempt["output"]:
        return None
    return Found([])


def no_modprobe(facts: Facts) -> Found | None:
    attempt = attempt_to_load(facts)
    if attempt is None or attempt["status"] is not None or "there is no modprobe" not in attempt["output"]:
        return None
    install = install_kmod(facts)
    return Found([], ("Install modprobe:", *install, *LOAD_AGAIN) if install else None)


def hangs(facts: Facts) -> Found | None:
    attempt = attempt_to_load(facts)
    if attempt is None or attempt["status"] is not None or "did not end" not in attempt["output"]:
        return None
    return Found([])


def needs_root(facts: Facts) -> Found | None:
    attempt = attempt_to_load(facts)
    if is_root(facts) or attempt is None or attempt["status"] in (0, None):
        return None
    if not re.search(r"Operation not permitted|Permission denied", attempt["output"]):
        return None
    return Found([f"effective user id: {facts.evidence['host']['euid']}"])


CAUSES = (
    Cause(
        "modules-of-the-host",
        _ABSENT,
        "kvmprobe ran in a container, and kvm_amd is not loaded. A container shares the host's kernel: modules are "
        "loaded on the host, and the container's /lib/modules does not have those of the running kernel.",
        in_container,
        (
            *_LOAD_ON_HOST,
            (
                "Then give the container the device: docker run --device /dev/kvm, lxc config device add CONTAINER kvm "
                "unix-char source=/dev/kvm, or a Kubernetes device plugin."
            ),
        ),
    ),
    Cause(
        "modules-gone",
        _ABSENT,
        "The folder /lib/modules/RELEASE of the running kernel does not exist. Usually an update replaced the kernel "
        "and its modules, and the machine still runs the old kernel.",
        gone,
        (
            "The modules of the running kernel are gone ({folder}). Reboot into the installed kernel:",
            "# systemctl reboot",
            "In a container, the modules are those of the host: load kvm_amd there.",
        ),
    ),
    Cause(
        "module-index-missing",
        _ABSENT,
        "/lib/modules/RELEASE exists and has no modules.dep, without which modprobe finds no module.",
        index_missing,
        ("Make modprobe's index of the modules:", "# depmod -a", *LOAD_AGAIN),
    ),
    Cause(
        "module-not-installed",
        _ABSENT,
        "The modules of the running kernel are installed, without kvm_amd: it is in another package of the "
        "distribution, or the kernel was built without CONFIG_KVM_AMD.",
        not_installed,
        (
            *_NOT_INSTALLED,
            "Else install the rest of the running kernel's modules, on Ubuntu",
            "# apt-get install linux-modules-extra-$(uname -r)",
            "and on Fedora and RHEL",
            "# dnf install kernel-modules-core-$(uname -r) kernel-modules-$(uname -r)",
            *_OR_NOT_BUILT,
        ),
    ),
    Cause(
        "kernel-without-modules",
        _ABSENT,
        "The kernel has no loadable modules, and kvm_amd is not built in.",
        no_loadable_modules,
        (
            (
                "Boot a kernel that has kvm_amd: CONFIG_KVM=y and CONFIG_KVM_AMD=y, or CONFIG_MODULES=y and "
                "CONFIG_KVM_AMD=m."
            ),
        ),
    ),
    Cause(
        "modprobe-missing",
        _ABSENT,
        "kvm_amd could not be loaded because modprobe cannot be run.",
        no_modprobe,
        ("Install modprobe, on Debian and Ubuntu:", "# apt-get install kmod", *LOAD_AGAIN),
    ),
    Cause(
        "modprobe-hangs",
        _ABSENT,
        "modprobe did not end: the function that starts kvm_amd, or a module that it needs, hangs in the kernel.",
        hangs,
        (
            "A module hangs in the kernel while it starts. See in the kernel's log where:",
            "# dmesg -T",
            "Reboot, which alone ends it:",
            "# systemctl reboot",
        ),
    ),
)

NEEDS_ROOT = Cause(
    "load-needs-root",
    _ABSENT,
    "A user other than root tried to load kvm_amd, and only root may load modules (CAP_SYS_MODULE).",
    needs_root,
    ("Load kvm_amd as root:", *LOAD),
)
