"""Evidence as containers, sandboxes and distributions in public reports would give it: each needs steps of its own."""

from __future__ import annotations

from tests.helpers.cause_changes import (
    BASE,
    DOCKER,
    NOT_FOUND,
    OPEN_EACCES,
    Caused,
    all_of,
    attempt,
    command_line,
    device,
    ioctl,
    module,
    module_files,
    refused,
    release,
    rights,
    surroundings,
    user,
)
from tests.helpers.evidence_changes import log, no_flag
from tests.helpers.near_changes import NO_NODE, node
from tests.helpers.variants import no_kvm_amd

_APPARMOR = (
    'audit: type=1400 audit(1700000000.1:42): apparmor="DENIED" operation="open" profile="snap.example.daemon" '
    'name="/dev/kvm" pid=411 comm="kvmprobe" requested_mask="wr" denied_mask="wr" fsuid=0 ouid=0'
)
_SELINUX = (
    "audit: type=1400 audit(1700000000.1:42): avc:  denied  {{ {} }} for  pid=411 "
    'comm="kvmprobe" {} dev="devtmpfs" ino=120 scontext=system_u:system_r:container_t:s0 '
    "tcontext=system_u:object_r:kvm_device_t:s0 tclass=chr_file permissive=0"
)
_LXC = surroundings(container="lxc")
_NO_MODULES = module_files(folder=False, index=None, kvm_amd=None)
_UNMAPPED = node(owner="nobody", group="nogroup")
_OF_USER = all_of(OPEN_EACCES, user(1000))
_PROXMOX = release("6.8.12-4-pve")
_FEDORA = release("6.11.4-301.fc41.x86_64")
_RHEL = release("5.14.0-427.el9.x86_64")
_ARCH = release("6.11.3-arch1-1")
_SUSE = release("6.4.0-150600.23.25-default")

CONTAINERS: Caused = (
    (
        "svm-cleared-by-clearcpuid",
        BASE,
        all_of(no_kvm_amd, DOCKER, no_flag, command_line("clearcpuid=svm"), _NO_MODULES),
        "kvm-amd-not-loaded",
        ("^The kernel is that of the container's host", "clearcpuid=svm"),
    ),
    (
        "module-blacklisted",
        BASE,
        all_of(no_kvm_amd, DOCKER, command_line("module_blacklist=kvm_amd"), _NO_MODULES),
        "kvm-amd-not-loaded",
        ("^The kernel is that of the container's host", "Remove module_blacklist=kvm_amd"),
    ),
    (
        "other-vendor-module",
        BASE,
        all_of(no_kvm_amd, _LXC, module("kvm_pvm"), node(registered=True), _NO_MODULES),
        "kvm-amd-not-loaded",
        ("^The kernel is that of the container's host", "modprobe -r kvm_pvm"),
    ),
    (
        "modules-of-the-host",
        BASE,
        all_of(no_kvm_amd, _LXC, _PROXMOX),
        "kvm-amd-not-loaded",
        ("^On the host, outside the container.*`pct set CTID --dev0 /dev/kvm,mode=0666`",),
    ),
    ("container-without-device", BASE, all_of(NO_NODE, _LXC), "kvm-device-missing", ("`pct set CTID",)),
    (
        "container-without-device",
        BASE,
        all_of(NO_NODE, surroundings(container="podman")),
        "kvm-device-missing",
        ("`podman run --device /dev/kvm IMAGE`",),
    ),
    ("device-cgroup-refuses", BASE, all_of(device("EPERM"), _LXC), "kvm-not-permitted", ("`pct set CTID",)),
    (
        "not-in-group",
        BASE,
        all_of(_OF_USER, DOCKER, rights(groups=["node"])),
        "kvm-not-permitted",
        ("^Start the container.*`docker run --device /dev/kvm --group-add",),
    ),
    (
        "not-in-group",
        BASE,
        all_of(_OF_USER, surroundings(container="kubernetes"), rights(groups=["1000"])),
        "kvm-not-permitted",
        ("supplementalGroups",),
    ),
    (
        "device-for-root-only",
        BASE,
        all_of(_OF_USER, DOCKER, node(mode="0600", group="root")),
        "kvm-not-permitted",
        ("^On the host.*65-kvm.rules.*`docker run --device /dev/kvm --group-add",),
    ),
    (
        "not-in-group",
        BASE,
        all_of(_OF_USER, node(group="108"), rights(groups=["users"])),
        "kvm-not-permitted",
        ("`sudo groupadd -g 108 kvm108`",),
    ),
    (
        "open-refused-by-policy",
        BASE,
        all_of(_OF_USER, surroundings(container="podman"), _UNMAPPED, rights(groups=["user"], user_namespace=True)),
        "kvm-not-permitted",
        ("keep-groups",),
    ),
    ("open-refused-by-policy", BASE, all_of(_OF_USER, _UNMAPPED), "kvm-not-permitted", ("is in a user namespace",)),
    (
        "open-refused-by-policy",
        BASE,
        all_of(_OF_USER, node(mode="0600"), _UNMAPPED),
        "kvm-not-permitted",
        ("is in a user namespace",),
    ),
    (
        "open-refused-by-policy",
        BASE,
        all_of(OPEN_EACCES, _UNMAPPED, _LXC, rights(user_namespace=True)),
        "kvm-not-permitted",
        ("unprivileged.*`pct set CTID",),
    ),
    (
        "open-refused-by-policy",
        BASE,
        all_of(OPEN_EACCES, rights(), log(_APPARMOR)),
        "kvm-not-permitted",
        ("^AppArmor denied /dev/kvm", "snap.example.daemon"),
    ),
    (
        "open-refused-by-policy",
        BASE,
        all_of(OPEN_EACCES, rights(), log(_SELINUX.format("read write", 'name="kvm"'))),
        "kvm-not-permitted",
        ("^SELinux denied /dev/kvm", "container_t"),
    ),
    (
        "ioctl-refused",
        BASE,
        all_of(ioctl("KVM_CREATE_VM", "EACCES"), log(_SELINUX.format("ioctl", 'path="/dev/kvm"'))),
        "kvm-not-permitted",
        ("^SELinux denied /dev/kvm", r"\{ ioctl \}"),
    ),
)

DISTRIBUTIONS: Caused = (
    (
        "module-mismatch",
        BASE,
        all_of(refused("kvm: disagrees about version of symbol module_layout", answer="Exec format error"), _FEDORA),
        "kvm-amd-load-failed",
        ('`dnf reinstall "kernel\\*-',),
    ),
    (
        "module-mismatch",
        BASE,
        all_of(attempt("Exec format error"), _PROXMOX),
        "kvm-amd-load-failed",
        ("proxmox-kernel",),
    ),
    (
        "module-unsigned",
        BASE,
        all_of(attempt("Key was rejected by service"), _RHEL),
        "kvm-amd-load-failed",
        ("`dnf reinstall",),
    ),
    (
        "module-unsigned",
        BASE,
        all_of(attempt("Key was rejected by service"), _SUSE),
        "kvm-amd-load-failed",
        ("zypper",),
    ),
    (
        "module-not-installed",
        BASE,
        all_of(attempt(NOT_FOUND.format("kvm_amd")), module_files(kvm_amd=None), _ARCH),
        "kvm-amd-load-failed",
        ("reboot.*`pacman -Syu linux`",),
    ),
    (
        "module-not-installed",
        BASE,
        all_of(attempt(NOT_FOUND.format("kvm_amd")), _RHEL),
        "kvm-amd-load-failed",
        ("`dnf install kernel-core",),
    ),
    (
        "modprobe-missing",
        BASE,
        all_of(attempt("there is no modprobe in /sbin", None), _ARCH),
        "kvm-amd-not-loaded",
        ("`pacman -S kmod`",),
    ),
)
