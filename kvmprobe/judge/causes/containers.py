"""A container shares the host's kernel: what is to be done on the host, and how it gives /dev/kvm to the container."""

from __future__ import annotations

from kvmprobe.judge.causes.quotes import container
from kvmprobe.judge.facts import Facts

# Reasons that are about the kernel or the firmware, which belong to the host.
_OF_THE_HOST = ("kvm-amd-not-loaded", "kvm-amd-load-failed", "firmware-disabled", "svm-held-by-another-owner")
_ON_THE_HOST = "The kernel is that of the container's host: run these commands there. "

_DOCKER = ("Start the container with the device:", "$ {kind} run --device /dev/kvm IMAGE")
_LXC = (
    "On the host, give the container the device, with LXD or Incus",
    "$ lxc config device add CONTAINER kvm unix-char source=/dev/kvm",
    "or with Proxmox:",
    "$ pct set CTID --dev0 /dev/kvm,mode=0666",
)
_KUBERNETES = ("Give the pod the device: a device plugin for /dev/kvm (KubeVirt has one), or a privileged pod.",)
_NSPAWN = (
    "Start the container with the device:",
    "$ systemd-nspawn --bind=/dev/kvm --property=DeviceAllow='/dev/kvm rw' -D FOLDER",
)
_GIVE_DEVICE = {
    "docker": tuple(step.format(kind="docker") for step in _DOCKER),
    "podman": tuple(step.format(kind="podman") for step in _DOCKER),
    "lxc": _LXC,
    "kubernetes": _KUBERNETES,
    "systemd-nspawn": _NSPAWN,
}

_DOCKER_GROUP = (
    "Start the container with the device and with the number of its group on the host:",
    "$ {kind} run --device /dev/kvm --group-add $(stat -c %g /dev/kvm) IMAGE",
)
_GIVE_GROUP = {
    "docker": tuple(step.format(kind="docker") for step in _DOCKER_GROUP),
    "podman": (
        "Start the container with the device and the groups of the user, who has to be in the device's group:",
        "$ podman run --device /dev/kvm --group-add keep-groups IMAGE",
    ),
    "kubernetes": (
        (
            "Add the number of the device's group on the host to securityContext.supplementalGroups of the pod. On the "
            "host, this shows it:"
        ),
        "$ stat -c %g /dev/kvm",
    ),
}


def give_device(facts: Facts) -> tuple[str, ...] | None:
    """The steps that give the device to a container of this kind; None outside of one, or where the kind is another."""
    return _GIVE_DEVICE.get(container(facts) or "")


def give_group(facts: Facts) -> tuple[str, ...] | None:
    """The steps that give a container's user the device's group, which the host has; None as above."""
    return _GIVE_GROUP.get(container(facts) or "")


def on_the_host(facts: Facts, reason: str) -> str:
    """The sentence before a hint whose commands are for a container's host; "" elsewhere."""
    return _ON_THE_HOST if container(facts) and reason in _OF_THE_HOST else ""
