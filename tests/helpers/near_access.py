"""Near misses of causes about rights, the node of /dev/kvm, and registers that cannot be read."""

from __future__ import annotations

from tests.helpers.cause_changes import (
    AT_LOAD,
    BASE,
    DOCKER,
    NOT_FOUND,
    OPEN_EACCES,
    all_of,
    built_in_refused,
    device,
    ioctl,
    module,
    nodev,
    rights,
    set_guest,
    surroundings,
    unread,
)
from tests.helpers.evidence_changes import everywhere
from tests.helpers.near_changes import (
    NO_NODE,
    TMPFS,
    UNKNOWN,
    USER,
    Near,
    loads,
    near,
    no_guest,
    no_modules,
    node,
)
from tests.helpers.variants import (
    no_device,
    set_everywhere,
)

ACCESS: Near = (
    *near(
        BASE,
        "kvm-not-permitted",
        ("nodev mount, EPERM", all_of(device("EPERM"), nodev), "device-cgroup-refuses"),
        (
            "two nodev mounts",
            all_of(
                device("EACCES"),
                rights(dev_mounts=[{**TMPFS, "options": "nodev"}, {**TMPFS, "path": "/dev/x", "options": "nodev"}]),
            ),
            "nodev-mount",
        ),
        (
            "option that contains nodev",
            all_of(device("EACCES"), rights(dev_mounts=[{**TMPFS, "options": "rw,x-nodev"}])),
            "open-refused-by-policy",
        ),
        ("mounts unknown", all_of(device("EACCES"), rights(dev_mounts=UNKNOWN)), "open-refused-by-policy"),
        ("not in group, root", OPEN_EACCES, "open-refused-by-policy"),
        ("not in group, EPERM", all_of(OPEN_EACCES, USER, node(opened={"error": "EPERM"})), "device-cgroup-refuses"),
        ("not in group, mode unknown", all_of(OPEN_EACCES, USER, node(mode=None)), "open-refused-by-policy"),
        ("not in group, no group", all_of(OPEN_EACCES, USER, node(group=None)), "open-refused-by-policy"),
        ("group root may use it", all_of(OPEN_EACCES, USER, node(group="root")), "device-for-root-only"),
        ("group may only read", all_of(OPEN_EACCES, USER, node(mode="0640")), "device-for-root-only"),
        ("group may only write", all_of(OPEN_EACCES, USER, node(mode="0620")), "device-for-root-only"),
        ("everybody may use it", all_of(OPEN_EACCES, USER, node(mode="0666")), "open-refused-by-policy"),
        ("everybody may use it, not its group", all_of(OPEN_EACCES, USER, node(mode="0606")), "open-refused-by-policy"),
        (
            "everybody may do anything, not its group",
            all_of(OPEN_EACCES, USER, node(mode="0607")),
            "open-refused-by-policy",
        ),
        ("its group may do anything", all_of(OPEN_EACCES, USER, node(mode="0670")), "not-in-group"),
        ("everybody may only read", all_of(OPEN_EACCES, USER, node(mode="0664")), "not-in-group"),
        ("group that a shell would run", all_of(OPEN_EACCES, USER, node(group="kvm; reboot #")), "not-in-group"),
        ("in the group", all_of(OPEN_EACCES, USER, rights(groups=["users", "kvm"])), "open-refused-by-policy"),
        ("groups unknown", all_of(OPEN_EACCES, USER, rights(groups=UNKNOWN)), "not-in-group"),
        ("rights unknown", all_of(OPEN_EACCES, USER), "not-in-group"),
        ("mode 0600, root", all_of(OPEN_EACCES, node(mode="0600")), "open-refused-by-policy"),
        (
            "mode 0600, EPERM",
            all_of(OPEN_EACCES, USER, node(mode="0600", opened={"error": "EPERM"})),
            "device-cgroup-refuses",
        ),
        ("no mode of a file", all_of(OPEN_EACCES, USER, node(mode="rw")), "open-refused-by-policy"),
        ("EPERM in a container", all_of(device("EPERM"), DOCKER), "device-cgroup-refuses"),
        ("EACCES, security modules unknown", all_of(device("EACCES"), rights(lsm=UNKNOWN)), "open-refused-by-policy"),
        (
            "EACCES, user namespace unknown",
            all_of(device("EACCES"), rights(user_namespace=None)),
            "open-refused-by-policy",
        ),
        (
            "ioctl refused, strict seccomp",
            all_of(ioctl("KVM_CREATE_VM", "EPERM"), rights(seccomp="1", lsm=None)),
            "ioctl-refused",
        ),
    ),
    *near(
        AT_LOAD,
        "guest-not-run",
        ("guest refused without an error", lambda e: e["guest"][1].update(result="skipped", detail="not pinned"), None),
        (
            "guest refused on cpu0, skipped on cpu1",
            all_of(set_guest("EPERM"), lambda e: e["guest"][1].update(result="skipped", error=None)),
            "ioctl-refused",
        ),
    ),
)

NODE: Near = (
    *(
        (
            f"{name} in the node's place",
            BASE,
            device("ENODEV", type=name, number=None),
            "kvm-device-missing",
            "device-is-file",
        )
        for name in ("symlink", "socket", "fifo", "block")
    ),
    *near(
        BASE,
        "kvm-device-missing",
        ("number unknown", device("EIO", number=None), None),
        ("right number", device("EIO"), None),
        ("number of a block device", device("EIO", type="block", number="1:3"), "device-is-file"),
        ("folder, not registered", device("EISDIR", type="folder", registered=False), "device-is-folder"),
        (
            "folder, kvm_amd built in",
            all_of(device("EISDIR", type="folder"), module("kvm_amd", state="builtin", refcount=None)),
            "device-is-folder",
        ),
        ("folder, /sys/module unread", all_of(device("EISDIR", type="folder"), no_modules), "device-is-folder"),
        (
            "built in, registered",
            all_of(built_in_refused(), node(registered=True, type="char", opened={"error": "EIO"})),
            None,
        ),
        (
            "built in, registered unknown",
            all_of(built_in_refused(), node(registered=None, opened={"error": "ENOENT"})),
            None,
        ),
        ("not built in, not registered", no_device, None),
        ("container, not registered", all_of(no_device, DOCKER), None),
    ),
    *(
        (
            f"container {kind}",
            BASE,
            all_of(NO_NODE, surroundings(container=kind)),
            "kvm-device-missing",
            "container-without-device",
        )
        for kind in ("podman", "lxc", "kubernetes", "systemd-nspawn")
    ),
    *near(
        BASE,
        "kvm-device-missing",
        ("no container", all_of(NO_NODE, surroundings()), "node-missing"),
        ("devtmpfs", all_of(NO_NODE, rights()), "node-missing"),
        (
            "devtmpfs below tmpfs",
            all_of(NO_NODE, rights(dev_mounts=[TMPFS, {**TMPFS, "type": "devtmpfs"}])),
            "node-missing",
        ),
        ("nothing on /dev", all_of(NO_NODE, rights(dev_mounts=[])), "no-devtmpfs"),
        ("mounts of /dev unknown", all_of(NO_NODE, rights(dev_mounts=UNKNOWN)), "node-missing"),
        ("no devtmpfs, node exists", all_of(device("EIO"), rights(dev_mounts=[TMPFS])), None),
        ("no devtmpfs, registered unknown", all_of(NO_NODE, rights(dev_mounts=[TMPFS]), node(registered=None)), None),
        ("no node, registered unknown", all_of(NO_NODE, node(registered=None)), None),
        ("no driver, ENXIO", device("ENXIO"), "node-without-driver"),
        ("no driver, type unknown", device("ENXIO", type="other"), None),
    ),
)

REGISTERS: Near = (
    *near(
        BASE,
        "msr-unreadable",
        ("user, EPERM", all_of(unread("EPERM"), USER), "registers-need-root"),
        ("user, ENOENT", all_of(unread("ENOENT"), USER), "registers-need-root"),
        ("user, EIO", all_of(unread("EIO"), USER), "registers-refused-by-hypervisor"),
        ("container, EPERM", all_of(unread("EPERM"), DOCKER), "container-without-msr"),
        ("no container, EPERM", all_of(unread("EPERM"), surroundings()), "registers-need-capability"),
        ("EPERM with the capability", all_of(unread("EPERM"), rights()), "registers-need-capability"),
        (
            "EPERM, capabilities unknown",
            all_of(unread("EPERM"), rights(capabilities=UNKNOWN)),
            "registers-need-capability",
        ),
        (
            "EPERM, only CAP_SYS_MODULE",
            all_of(unread("EPERM"), rights(capabilities="10000")),
            "registers-need-capability",
        ),
        (
            "EPERM, only CAP_SYS_RAWIO",
            all_of(unread("EPERM"), rights(capabilities="20000")),
            "registers-need-capability",
        ),
        ("msr loaded in vain", all_of(unread("ENOENT"), loads(("msr", 0, ""))), None),
        ("msr not found", all_of(unread("ENOENT"), loads(("msr", 1, NOT_FOUND.format("msr")))), "msr-module-missing"),
        ("msr refused without a message", all_of(unread("ENOENT"), loads(("msr", 1, ""))), "msr-module-missing"),
        (
            "EIO on one register",
            all_of(no_guest, lambda e: set_everywhere(e, "EFER", {"error": "EIO"})),
            "registers-refused-by-hypervisor",
        ),
        ("short read, msr not tried", all_of(unread("short read: 3 of 8 bytes"), loads()), None),
        ("short read", unread("short read: 3 of 8 bytes"), None),
        (
            "EFER unread, EIO of VM_HSAVE_PA alone",
            all_of(no_guest, everywhere("EFER", None), everywhere("VM_HSAVE_PA", {"error": "EIO"})),
            None,
        ),
    ),
)
