"""The lab: boots real kernels on emulated AMD machines and runs kvmprobe in them.

kernels, apt, image, modules, cache: a kernel that can be booted. initramfs, payload, init.sh: what runs in it.
qemu: one boot with a deadline. probe: one boot that brings a report back. run: the command `kvmprobe lab run`.
"""
