"""The lab boots real kernels on emulated AMD machines (QEMU without KVM) and runs kvmprobe in them.

A kernel that can boot: kernels, from apt, kernel_image, own_modules, guest_modules; kept in cache, which trusted_paths
and content_digest check. kernel_config: what the lab needs of a kernel (lab.config), and what of it one lacks.
What runs in the guest: initramfs, payload, guest_program, init.sh; on a root from userspace or guest_root.
One boot with a deadline: qemu, with its outcome in boot_result and share_quota for what the guest writes; nested_boot
is a boot inside a boot, with option_rom as the inner machine's firmware. keeper ends what a killed lab leaves.
One boot that returns a report: booted_probe. Every scenario on every kernel: matrix.
"""
