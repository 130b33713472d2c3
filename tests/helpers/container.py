"""A container of the DaemonSet, made by runc from the manifest, as a node's container runtime does.

This machine's /usr is in place of the image, for its Python.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What a runtime mounts in every container, unless the pod mounts something there.
_DEFAULT_MOUNTS = (
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]},
    {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
)
# In the order of their numbers (linux/capability.h). A privileged container always has all of them.
_CAPABILITIES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
""".split()
_NAMESPACES = ("pid", "mount", "ipc", "uts", "network")


def bundle(
    folder: Path, container: Any, volumes: Mapping[str, str | Path], environment: Mapping[str, str] | None = None
) -> Path:
    """Writes a folder for `runc run --bundle`, and returns it.

    `container` is from the manifest, `volumes` are folders by name, `environment` overrides the manifest's.
    """
    root = folder / "rootfs"
    for name in ("usr", "proc", "sys", "dev", "tmp", "etc"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    message = folder / "termination-log"
    message.touch()
    mounts: list[Any] = [
        _bind(mount["mountPath"], volumes[mount["name"]], mount.get("readOnly", False))
        for mount in container["volumeMounts"]
    ]
    mounts.append(_bind(container["terminationMessagePath"], message, False))
    taken = {mount["destination"] for mount in mounts}
    security = container["securityContext"]
    privileged = security.get("privileged", False)
    assert privileged or security["capabilities"]["drop"] == ["ALL"]
    added = _permitted_capabilities() if privileged else security["capabilities"]["add"]
    capabilities = [f"CAP_{name}" for name in added]
    variables = {each["name"]: each["value"] for each in container["env"]} | dict(environment or {})
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "args": container["command"],
            "cwd": "/",
            "env": ["PATH=/usr/bin:/usr/sbin", *(f"{name}={value}" for name, value in variables.items())],
            "user": {"uid": security["runAsUser"], "gid": 0},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": not security.get("allowPrivilegeEscalation", True),
        },
        "root": {"path": "rootfs", "readonly": security["readOnlyRootFilesystem"]},
        "mounts": [mount for mount in _DEFAULT_MOUNTS if mount["destination"] not in taken] + mounts,
        "linux": {
            "namespaces": [{"type": kind} for kind in _NAMESPACES],
            "cgroupsPath": f"/{name_of(folder)}",
            "resources": {"devices": [{"allow": privileged, "access": "rwm"}]},
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


def name_of(folder: Path) -> str:
    """The container's name and cgroup, for a bundle."""
    return f"kvmprobe-test-{os.getpid()}-{folder.name}"


def runc(folder: Path) -> list[str]:
    """The command for a runc that stores its state beside the bundle."""
    program = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program
    return [program, "--root", str(folder / "state")]


def _permitted_capabilities() -> list[str]:
    """The capabilities that this process can pass on: in a CI's container it may not have all."""
    status = Path("/proc/self/status").read_text()
    bits = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapPrm")), 16)
    return [name for number, name in enumerate(_CAPABILITIES) if bits >> number & 1]


def _bind(destination: str, source: str | Path, read_only: bool) -> Any:
    options = ["rbind", "rprivate", "ro" if read_only else "rw"]
    return {"destination": destination, "type": "bind", "source": str(source), "options": options}
