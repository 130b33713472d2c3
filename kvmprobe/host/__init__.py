"""What touches the machine: files of /proc, /sys and /dev, registers, ioctls, modules, processes."""
