"""This process may not use /dev/kvm (file mode, mount, device cgroup, sandbox, security module) or lacks a resource."""

from __future__ import annotations

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.containers import give_device, give_group
from kvmprobe.judge.causes.quotes import container, denials, from_log, is_root, known_text, rights
from kvmprobe.judge.facts import Facts
from kvmprobe.model.own_errors import LIMITS, REFUSED
from kvmprobe.model.values import as_mode, error_of

_REFUSED = ("kvm-not-permitted",)


def _opening(facts: Facts) -> str | None:
    return error_of(facts.evidence["device"]["opened"])


def _user(facts: Facts) -> str:
    return f"effective user id: {facts.evidence['host']['euid']}"


def nodev(facts: Facts) -> Found | None:
    found = rights(facts)
    mounts = found["dev_mounts"] if found else None
    if _opening(facts) != "EACCES" or not isinstance(mounts, list):
        return None
    mount = mounts[-1] if mounts else None  # it hides those before
    if mount is None or "nodev" not in mount["options"].split(","):
        return None
    return Found([f"{mount['path']} is mounted with {mount['options']}"], path=mount["path"])


def not_in_group(facts: Facts) -> Found | None:
    mode, group = as_mode(facts.evidence["device"]["mode"]), facts.evidence["device"]["group"]
    if is_root(facts) or _opening(facts) != "EACCES" or mode is None or not group or group == "root":
        return None
    if mode & 0o060 != 0o060 or mode & 0o006 == 0o006 or _is_unmapped(facts):
        return None
    found = rights(facts)
    groups = found["groups"] if found else None
    if isinstance(groups, list) and group in groups:
        return None
    mine = [f"groups of this process: {', '.join(groups)}"] if isinstance(groups, list) else []
    steps = give_group(facts) or (_GROUP_WITHOUT_NAME if group.isdigit() else None)
    return Found([_user(facts), *mine], steps, group=group)


# Groups that the kernel shows in place of those that a user namespace does not map (overflowgid).
_UNMAPPED = ("nobody", "nogroup", "65534")
_GROUP_WITHOUT_NAME = (
    "The group of /dev/kvm, {group}, has no name here. Give it one and add the user, then log out and in again:",
    "$ sudo groupadd -g {group} kvm{group}",
    '$ sudo usermod -aG kvm{group} "$USER"',
)


def _is_unmapped(facts: Facts) -> bool:
    device = facts.evidence["device"]
    return device["group"] in _UNMAPPED and device["owner"] in _UNMAPPED


def root_only(facts: Facts) -> Found | None:
    mode, group = as_mode(facts.evidence["device"]["mode"]), facts.evidence["device"]["group"]
    if is_root(facts) or _opening(facts) != "EACCES" or mode is None:
        return None
    if mode & 0o006 == 0o006 or (mode & 0o060 == 0o060 and group != "root") or _is_unmapped(facts):
        return None
    group_steps = give_group(facts)
    return Found(
        [_user(facts)],
        ("On the host, give the device to the group kvm:", *_RULE, *group_steps) if group_steps else None,
    )


_RULE = (
    '$ echo \'KERNEL=="kvm", GROUP="kvm", MODE="0660"\' | sudo tee /etc/udev/rules.d/65-kvm.rules',
    "$ sudo udevadm control --reload",
    "$ sudo udevadm trigger --settle --action=change /dev/kvm",
)


def device_cgroup(facts: Facts) -> Found | None:
    """The device cgroup answers EPERM; a file's mode and a nodev mount answer EACCES."""
    kind = container(facts)
    if _opening(facts) != "EPERM":
        return None
    steps = give_device(facts)
    quoted = [f"kvmprobe ran in a container ({kind})"] if kind else []
    return Found(quoted, ("The container's device cgroup does not allow /dev/kvm.", *steps) if steps else None)


def security_module(facts: Facts) -> Found | None:
    if _opening(facts) not in REFUSED:
        return None
    found = rights(facts)
    lsm = known_text(found["lsm"]) if found else None
    mapped = found["user_namespace"] if found else None
    because = [_user(facts)]
    because += [f"security modules: {lsm}"] if lsm else []
    denied = denials(facts)
    if denied:
        return Found([*because, *from_log(denied[-1])], _denied(denied[-1]))
    if mapped is True:
        because.append("in a user namespace (/proc/self/uid_map)")
    if mapped is True or _is_unmapped(facts):
        return Found(because, _USER_NAMESPACE_OF_LXC if container(facts) == "lxc" else _USER_NAMESPACE)
    return Found(because)


def _denied(line: str) -> tuple[str, ...]:
    """The steps for an audit line of AppArmor or SELinux."""
    return _APPARMOR if "apparmor=" in line else _SELINUX


_APPARMOR = (
    (
        "AppArmor denied /dev/kvm: the kernel's line names the profile. Add the rule '/dev/kvm rw,' to that profile "
        "and load it again, or run the program outside of the profile. For a snap, connect its interface:"
    ),
    "# apparmor_parser -r /etc/apparmor.d/PROFILE",
    "# snap connect NAME:kvm",
)
_SELINUX = (
    (
        "SELinux denied /dev/kvm: the kernel's line names the domain (scontext). For a container, allow devices to "
        "all containers, or run this one without separation (docker run --security-opt label=disable):"
    ),
    "# setsebool -P container_use_devices true",
    "For another domain, make a policy module from the denials, read it, and load it:",
    "# sh -c 'ausearch -m avc -ts recent | audit2allow -M kvm_local'",
    "# semodule -i kvm_local.pp",
)
_USER_NAMESPACE_OF_LXC = (
    (
        "This container is unprivileged: it is in a user namespace, where user id 0 is not the host's root, and the "
        "node's mode decides. On the host, give the container a node that it may use, with Proxmox"
    ),
    "$ pct set CTID --dev0 /dev/kvm,mode=0666",
    "or with LXD or Incus:",
    "$ lxc config device add CONTAINER kvm unix-char source=/dev/kvm mode=0666",
)


_USER_NAMESPACE = (
    (
        "This process is in a user namespace, where user id 0 is not the host's root, and the node's mode decides. "
        "Give the host's user, or a group of the container, the right to the node on the host, for instance:"
    ),
    "$ sudo setfacl -m u:USER:rw /dev/kvm",
    "With podman, keep the user's groups in the container:",
    "$ podman run --device /dev/kvm --group-add keep-groups IMAGE",
)


def _answers(facts: Facts) -> dict[str, str]:
    """Errors of the ioctls that this verdict is about, by name."""
    ioctls = facts.evidence["ioctls"]
    answers = {name: error_of(ioctls[name]) for name in ("KVM_GET_API_VERSION", "KVM_CREATE_VM")}
    runs = {f"{run['detail']} on cpu{run['cpu']}": run["error"] for run in facts.evidence["guest"]}
    return {name: error for name, error in {**answers, **runs}.items() if error}


def _registers(facts: Facts) -> dict[str, str]:
    """Errors of EFER and VM_CR, by name."""
    pairs = [(phase, name) for phase in ("before", "created") for name in ("EFER", "VM_CR")]
    return {f"{name} {phase}": error for phase, name in pairs for error in facts.register_errors(phase, name).values()}


def ioctl_refused(facts: Facts) -> Found | None:
    refused = {name: error for name, error in _answers(facts).items() if error in REFUSED}
    if not refused:
        return None
    found = rights(facts)
    lsm = known_text(found["lsm"]) if found else None
    seccomp = known_text(found["seccomp"]) if found else None
    because = [f"{facts.evidence['device']['path']}: opened"]
    because += [f"security modules: {lsm}"] if lsm else []
    because += ["a seccomp filter is on (/proc/self/status: Seccomp 2)"] if seccomp == "2" else []
    denied = denials(facts)
    return Found(because + from_log(*denied[-1:]), _denied(denied[-1]) if denied else None)


def out_of_resource(facts: Facts) -> Found | None:
    answers = {"opening " + facts.evidence["device"]["path"]: _opening(facts), **_answers(facts), **_registers(facts)}
    short = {name: error for name, error in answers.items() if error in LIMITS}
    return Found([f"{name}: {error}" for name, error in short.items()]) if short else None


CAUSES = (
    Cause(
        "out-of-resource",
        (*_REFUSED, "guest-not-run", "msr-unreadable"),
        "The process or the machine ran out of descriptors or memory (EMFILE, ENFILE, ENOMEM), or was interrupted. "
        "That shows nothing about SVM.",
        out_of_resource,
        (
            (
                "Run kvmprobe again. For EMFILE, raise the limit of open files of the process (ulimit -n); for "
                "ENFILE, that of the machine (sysctl fs.file-max); for ENOMEM, free memory or raise the cgroup's "
                "limit:"
            ),
            "$ ulimit -n",
            "$ sysctl fs.file-max",
            "$ free -m",
        ),
    ),
    Cause(
        "ioctl-refused",
        (*_REFUSED, "guest-not-run"),
        "/dev/kvm opened and an ioctl of KVM was refused with EACCES, EPERM or ENOSYS, which KVM itself does not "
        "answer there: a sandbox (Landlock, seccomp) or a security module (SELinux, AppArmor) refuses.",
        ioctl_refused,
        (
            (
                "A sandbox or security module refuses KVM's ioctls to this process. Run kvmprobe outside of it, or "
                "allow ioctls on /dev/kvm in its policy. To see which one it is (Seccomp: 2 is a filter):"
            ),
            "$ grep Seccomp /proc/self/status",
            "# journalctl -k -b -g 'avc|apparmor|seccomp'",
            "# ausearch -m avc,seccomp -ts recent",
        ),
    ),
    Cause(
        "nodev-mount",
        _REFUSED,
        "The file system of /dev/kvm is mounted with nodev: nobody, root included, can open a device there.",
        nodev,
        ("The file system is mounted with nodev. Remount it without nodev:", "# mount -o remount,dev {path}"),
    ),
    Cause(
        "not-in-group",
        _REFUSED,
        "/dev/kvm is for its owner and its group, and the user is in neither.",
        not_in_group,
        (
            "Add the user to the group of /dev/kvm, then log out and in again:",
            '$ sudo usermod -aG {group} "$USER"',
            "Until then, run kvmprobe as root:",
            "$ sudo kvmprobe check",
        ),
    ),
    Cause(
        "device-for-root-only",
        _REFUSED,
        "/dev/kvm has no group that may use it: udev's rule for KVM is missing, or did not run.",
        root_only,
        (
            "Run kvmprobe as root:",
            "$ sudo kvmprobe check",
            "To give the group kvm access permanently:",
            *_RULE,
        ),
    ),
    Cause(
        "device-cgroup-refuses",
        _REFUSED,
        "Opening /dev/kvm was refused with EPERM: the device cgroup of a container or a systemd unit does not allow "
        "it.",
        device_cgroup,
        (
            (
                "The device cgroup does not allow /dev/kvm. Allow it where the process is started: docker run "
                "--device /dev/kvm, DeviceAllow=/dev/kvm rw in a systemd unit (PrivateDevices=no), or a Kubernetes "
                "device plugin. This shows the cgroup:"
            ),
            "$ cat /proc/self/cgroup",
        ),
    ),
    Cause(
        "open-refused-by-policy",
        _REFUSED,
        "Opening /dev/kvm was refused although user id, mode and group allow it: a nodev mount, a device cgroup, a "
        "user namespace or a security module.",
        security_module,
        (
            (
                "The mode of /dev/kvm allows access; something else refuses it. Check whether /dev is mounted with "
                "nodev (then: mount -o remount,dev /dev), whether a security module denied it (SELinux, AppArmor), and "
                "whether this is a container without the device (then: docker run --device /dev/kvm):"
            ),
            "$ findmnt -no TARGET,OPTIONS -T /dev/kvm",
            "# journalctl -k -b -g 'avc|apparmor'",
            "# ausearch -m avc -ts recent",
            "$ cat /proc/self/cgroup",
        ),
    ),
)
