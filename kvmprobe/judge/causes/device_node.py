"""kvm_amd is there, and /dev/kvm is not what it should be."""

from __future__ import annotations

from kvmprobe.judge.causes.cause import Cause, Found, safe
from kvmprobe.judge.causes.containers import give_device
from kvmprobe.judge.causes.quotes import container, is_built_in, last_lines, rights
from kvmprobe.judge.causes.steps import LOAD
from kvmprobe.judge.facts import Facts
from kvmprobe.model.values import KVM_NUMBER, error_of

_MISSING = ("kvm-device-missing",)
_IN_PLACE = (*_MISSING, "api-version", "kvm-amd-not-loaded")
_NOT_A_DEVICE = ("file", "symlink", "socket", "fifo", "block")


def _described(facts: Facts) -> str:
    device = facts.evidence["device"]
    number = f" {device['number']}" if device["number"] else ""
    return f"{device['path']}: {device['type'] or 'does not exist'}{number}"


_THEN_LOAD = "Then load kvm_amd again, which makes the node:"


def _registered(facts: Facts) -> str:
    return f"/sys/class/misc/kvm: {'exists' if facts.evidence['device']['registered'] else 'missing'}"


def _in_place(facts: Facts) -> Found | None:
    """What stands in the node's place is removed; then kvm_amd makes its node when it loads."""
    module = facts.modules.get("kvm_amd")
    if facts.has_kvm_amd is False:
        because = [_described(facts)]
        return Found(because, path=facts.evidence["device"]["path"], then=_THEN_LOAD, first=LOAD[0], second="")
    path = facts.evidence["device"]["path"]
    because = [_described(facts), _registered(facts)]
    reload_works = module is not None and module["state"] != "builtin" and not module["refcount"]
    steps = ("# modprobe -r kvm_amd", LOAD[0]) if reload_works else (f"# mknod -m 0660 {safe(path)} c 10 232",)
    then = _THEN_LOAD if reload_works else "Then make the node:"
    return Found(because, path=path, then=then, first=steps[0], second=steps[-1] if reload_works else "")


def folder(facts: Facts) -> Found | None:
    return _in_place(facts) if facts.evidence["device"]["type"] == "folder" else None


def other_file(facts: Facts) -> Found | None:
    return _in_place(facts) if facts.evidence["device"]["type"] in _NOT_A_DEVICE else None


def other_number(facts: Facts) -> Found | None:
    device = facts.evidence["device"]
    if device["type"] != "char" or device["number"] in (None, KVM_NUMBER):
        return None
    return _in_place(facts)


def starting(facts: Facts) -> Found | None:
    module = facts.modules.get("kvm_amd")
    return Found(["/sys/module/kvm_amd/initstate: coming"]) if module and module["state"] == "coming" else None


def built_in_refused(facts: Facts) -> Found | None:
    if not is_built_in(facts, "kvm_amd") or facts.evidence["device"]["registered"] is not False:
        return None
    return Found(["kvm_amd is built in, and /sys/class/misc/kvm does not exist", *last_lines(facts)])


def not_in_container(facts: Facts) -> Found | None:
    kind = container(facts)
    if kind is None or facts.evidence["device"]["registered"] is False:
        return None
    return Found([f"kvmprobe ran in a container ({kind})", _described(facts)], give_device(facts))


def no_devtmpfs(facts: Facts) -> Found | None:
    found = rights(facts)
    device = facts.evidence["device"]
    mounts = found["dev_mounts"] if found else None
    if device["type"] is not None or device["registered"] is not True or not isinstance(mounts, list):
        return None
    visible = mounts[-1:]  # it hides those before
    if any(mount["type"] == "devtmpfs" for mount in visible):
        return None
    on_dev = ", ".join(f"{mount['path']} {mount['type']}" for mount in visible) or "nothing is mounted on /dev"
    return Found([_described(facts), f"no devtmpfs on /dev ({on_dev})"], path=device["path"])


def node_missing(facts: Facts) -> Found | None:
    device = facts.evidence["device"]
    if device["type"] is not None or device["registered"] is not True:
        return None
    return Found([_described(facts), "/sys/class/misc/kvm exists"], path=device["path"])


def no_driver(facts: Facts) -> Found | None:
    device = facts.evidence["device"]
    if device["type"] != "char" or error_of(device["opened"]) not in ("ENXIO", "ENODEV"):
        return None
    return Found([_described(facts), f"opening it: {error_of(device['opened'])}"])


_USUAL = {"path": "/dev/kvm", "then": _THEN_LOAD, "first": "# modprobe -r kvm_amd", "second": LOAD[0]}

CAUSES = (
    Cause(
        "device-is-folder",
        _IN_PLACE,
        "/dev/kvm is a folder, not a device. docker -v /dev/kvm:/dev/kvm makes one where there is no device yet, and "
        "the kernel then cannot make the node.",
        folder,
        (
            "A container's volume (docker -v) made a folder in place of the device. Stop that container and remove it:",
            "# rmdir {path}",
            "{then}",
            "{first}",
            "{second}",
            "Start the container with --device /dev/kvm instead of -v.",
        ),
        _USUAL,
    ),
    Cause(
        "device-is-file",
        _IN_PLACE,
        "/dev/kvm is a file, not a character device, and the kernel cannot make the node.",
        other_file,
        ("Remove the file that is in place of the device:", "# rm {path}", "{then}", "{first}", "{second}"),
        _USUAL,
    ),
    Cause(
        "device-has-wrong-number",
        _IN_PLACE,
        "/dev/kvm is a node of another device: KVM's number is 10, 232.",
        other_number,
        ("Remove the node, which belongs to another device:", "# rm {path}", "{then}", "{first}", "{second}"),
        _USUAL,
    ),
    Cause(
        "kvm-amd-still-starting",
        _MISSING,
        "kvm_amd is being loaded and its start did not end: it takes long, or hangs in the kernel.",
        starting,
        (
            "Check again: kvm_amd is still starting. If that does not end, see in the kernel's log where it hangs:",
            "# dmesg -T",
            "Reboot, which alone ends it:",
            "# systemctl reboot",
        ),
    ),
    Cause(
        "built-in-kvm-amd-refused",
        _MISSING,
        "kvm_amd is built into the kernel, and refused this CPU when the kernel started. The kernel's log has the "
        "line.",
        built_in_refused,
        (
            (
                "The built-in kvm_amd refused this CPU when the kernel started; it tries again at the next boot. "
                "Read why in the kernel's log:"
            ),
            "# journalctl -k -b -g 'kvm|svm'",
        ),
    ),
    Cause(
        "container-without-device",
        _MISSING,
        "kvmprobe ran in a container to which /dev/kvm was not given.",
        not_in_container,
        (
            (
                "Give the container the device: docker run --device /dev/kvm, lxc config device add CONTAINER kvm "
                "unix-char source=/dev/kvm, systemd-nspawn --bind=/dev/kvm --property=DeviceAllow='/dev/kvm rw'."
            ),
        ),
    ),
    Cause(
        "no-devtmpfs",
        _MISSING,
        "KVM is registered, and no devtmpfs is mounted on /dev: the kernel made the node where nobody sees it.",
        no_devtmpfs,
        (
            "/dev is not a devtmpfs, so the kernel's nodes are not in it. Make the node:",
            "# mknod -m 0660 {path} c 10 232",
            "In a container, give it the device instead: docker run --device /dev/kvm.",
        ),
        {"path": "/dev/kvm"},
    ),
    Cause(
        "node-missing",
        _MISSING,
        "KVM is registered and /dev/kvm does not exist: somebody removed it, or a container was not given it.",
        node_missing,
        (
            "In a container, give it the device: docker run --device /dev/kvm. On a host, make the node again:",
            "# mknod -m 0660 {path} c 10 232",
        ),
        {"path": "/dev/kvm"},
    ),
    Cause(
        "node-without-driver",
        _MISSING,
        "/dev/kvm exists and no driver answers: somebody made the node, or it stayed when kvm_amd was unloaded.",
        no_driver,
        (
            "No driver answers at /dev/kvm. Load kvm_amd; the second command records why that fails:",
            LOAD[0],
            "# kvmprobe --load-kvm",
        ),
    ),
)
