"""The modules fuse and cuse of a lab kernel, which its guests do not have: a character device made by a program."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from kvmprobe.lab import cache, external_programs
from kvmprobe.lab.apt import Apt
from kvmprobe.lab.compression import decompress
from kvmprobe.lab.kernels import Kernel

NAMES = ("fuse", "cuse")  # in the order in which they are loaded


def modules(kernel: Kernel) -> list[Path]:
    """The files of the modules, from the package of Debian's kernel, downloaded once. Raises Problem."""

    def make(new: Path) -> cache.Meta:
        with TemporaryDirectory(dir=new) as work:
            apt = Apt(kernel.name, Path(work, "apt"))
            apt.update()
            for package in apt.download([f"linux-image-{kernel.release}"], print):
                external_programs.run(external_programs.find("dpkg-deb", "dpkg"), "-x", package, Path(work, "unpacked"))
            for name in NAMES:
                (found,) = Path(work, "unpacked").rglob(f"fs/fuse/{name}.ko*")
                content = found.read_bytes()
                unpacked = content if found.suffix == ".ko" else decompress(content)
                assert unpacked is not None
                (new / f"{name}.ko").write_bytes(unpacked)
        return {}

    folder = cache.entry(cache.default(), f"cuse-{kernel.release}-1", make, print)[0]
    return [folder / f"{name}.ko" for name in NAMES]
