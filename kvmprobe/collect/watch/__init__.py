"""Watching a VMM from outside: its KVM ioctls as the kernel saw them, and every CPU's registers at them."""
