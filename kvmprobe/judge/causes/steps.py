"""Steps that several causes share."""

from __future__ import annotations

LOAD = ("# modprobe kvm_amd",)

LOAD_AGAIN = ("Then load the module:", *LOAD)

REBOOT = ("Then reboot:", "# systemctl reboot")

OFF_COMMAND_LINE = (
    (
        "Remove {parameter} from the kernel's command line: with GRUB, from GRUB_CMDLINE_LINUX and "
        "GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, then run"
    ),
    "# grub-mkconfig -o /boot/grub/grub.cfg",
    "or, where grubby is installed (Fedora, RHEL):",
    "# grubby --update-kernel=ALL --remove-args='{parameter}'",
    *REBOOT,
)

FIRMWARE_SETUP = (
    "Reboot into the firmware's setup (without UEFI: usually F2 or Del at boot):",
    "# systemctl reboot --firmware-setup",
)

OUTSIDE = "Ask whoever runs the hypervisor outside"
