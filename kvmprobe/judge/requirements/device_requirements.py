"""Requirements about the device nodes that VMMs open besides /dev/kvm."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import UNKNOWN
from kvmprobe.judge.requirements.requirement import MET, NOT_MET, Requirement, RequirementAnswer

if TYPE_CHECKING:
    from typing import Callable

    from kvmprobe.judge.facts import Facts

# The path and the module by the name in the evidence.
_NODES = {
    "vhost-net": ("/dev/vhost-net", "vhost_net"),
    "vhost-vsock": ("/dev/vhost-vsock", "vhost_vsock"),
    "tun": ("/dev/net/tun", "tun"),
}


def _device(name: str) -> Callable[[Facts], RequirementAnswer]:
    """What is known of a node: a driver is behind it, or opening it may load one (misc_open() in drivers/char/misc.c).

    kvmprobe does not open it, for that would load the module. So without a driver it is unknown, never met.
    """
    usual_path, module = _NODES[name]

    def ask(facts: Facts) -> RequirementAnswer:
        context = facts.evidence.get("context")
        device = context["devices"].get(name) if context else None
        if device is None:
            hint = "Run `kvmprobe check` of this version on the host itself."
            return RequirementAnswer(UNKNOWN, f"{usual_path} is not in the evidence", hint)
        path, kind = device["path"], device["type"]
        if kind == "char" and device["registered"]:
            return RequirementAnswer(MET, f"{path} ({device['number']}, mode {device['mode']}) has a driver")
        if kind not in (None, "char"):
            return RequirementAnswer(NOT_MET, f"{path} is no character device", f"Remove it: `rm -r {path}`.")
        load = f"Load its module: `modprobe {module}`."
        if kind is None:
            if device["registered"]:
                hint = f"In a container, give it {path}. On the host, let udev make it: `udevadm trigger -s misc`."
                return RequirementAnswer(NOT_MET, f"{path} is missing, and its driver is there", hint)
            return RequirementAnswer(NOT_MET, f"{path} is missing", load)
        if device["registered"] is None:
            hint = "Run `kvmprobe check` where /sys is mounted."
            return RequirementAnswer(UNKNOWN, f"{path} is there; whether it has a driver is unknown", hint)
        if device["loadable"] is False:
            hint = f"Install the kernel's package with the module {module}, or enable it in the kernel's configuration."
            return RequirementAnswer(NOT_MET, f"{path} is there; the kernel has neither a driver nor a module", hint)
        return RequirementAnswer(UNKNOWN, f"{path} is there; its driver is loaded only when it is opened", load)

    return ask


DEVICE_REQUIREMENTS = (
    Requirement("vhost", "/dev/vhost-net has a driver: fast networks of VMs", _device("vhost-net")),
    Requirement("vhost-vsock", "/dev/vhost-vsock has a driver: sockets between host and VM", _device("vhost-vsock")),
    Requirement("tun", "/dev/net/tun has a driver: networks of VMs", _device("tun")),
)
