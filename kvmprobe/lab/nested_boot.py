"""A boot inside a boot: QEMU with KVM in an emulated machine, for a firmware that sets VM_CR.

QEMU's own emulation ignores writes to VM_CR. In the inner machine the kernel finds VM_CR as after a switch in the
firmware's setup.

The outer guest has one CPU: with two CPUs one boot in four hung. Its timer is periodic: QEMU's helper_vmrun() changes
`interrupt_request` without a lock, so an interrupt that comes at that moment may be lost. The next interrupt of a
periodic timer repairs this; after a lost one-shot timer the outer guest waits for ever (half of the 5.10 boots did).
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvmprobe.lab import external_programs, keeper, payload, qemu
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.option_rom import option_rom
from kvmprobe.lab.qemu import Boot, Machine

OUTER = "bookworm"  # the kernel of the outer guest: six boots in six worked

_OUTER_MACHINE = Machine(cpus=1, memory="2G", parameters="nohz=off highres=off")
INNER_LOST = 75  # any exit status that no verdict has

# The outer guest passes on the inner one's output and exit status.
_SCRIPT = """\
mkdir -p /inner/results
{qemu} </dev/null >/inner/qemu 2>&1
cat /inner/results/stdout 2>/dev/null
cat /inner/results/stderr >&2 2>/dev/null
[ -e /inner/results/status ] && exit "$(cat /inner/results/status)"
echo "the inner guest was lost: $(cat /inner/results/mark /inner/results/notes 2>/dev/null)" >&2
tail -n 5 /inner/qemu /inner/console >&2
exit {lost}
"""


@contextmanager
def nest(inner: Boot, outer: Kernel) -> Iterator[Boot]:
    """Yields the outer boot that runs `inner`; valid inside the `with`. Its root is this machine's, which has QEMU.

    The outer guest can read what the inner one needs: its kernel, its root, its folders. Raises Problem.
    """
    program = external_programs.find("qemu-system-x86_64", "qemu-system-x86")
    with keeper.folder() as temp:
        temp.chmod(0o755)  # for the QEMU of root, which becomes nobody
        initrd, rom = temp / "initrd", temp / "rom"
        initrd.write_bytes(inner.initramfs())
        rom.write_bytes(option_rom(inner.machine.vm_cr or 0))
        kernel = dataclasses.replace(inner.kernel, image=inner.kernel.image.resolve())
        arguments = qemu.arguments(
            "kvm", dataclasses.replace(inner, kernel=kernel), initrd, Path("/inner/results"), Path("/inner/console")
        )
        command = shlex.join([program, *arguments, "-option-rom", str(rom)])
        script = _SCRIPT.format(qemu=command, lost=INNER_LOST)
        added = payload.archive(["modprobe kvm_amd"], ["sh", "-c", script])
        folders = [temp, kernel.image.parent, *inner.folders]
        if not inner.root.is_dir():
            folders.append(inner.root.parent)
        yield dataclasses.replace(
            inner, kernel=outer, payload=added, machine=_OUTER_MACHINE, root=Path("/"), folders=folders
        )
