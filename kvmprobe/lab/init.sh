#!/bin/busybox sh
# Process 1 of a guest. It puts the root (a squashfs image on /dev/vda, or the host's by 9p, read-only) under an overlay,
# so that everything may be written and nothing of it stays, and runs /lab/prepare and /lab/command there.
#
# In the share "results" it leaves for the host:
#   mark     how far it came: init, prepare, command
#   notes    what went wrong on the way, a line each
#   prepare  what the preparation said
#   stdout, stderr, and last of all status, of the command
#
# With /lab/init, the name of another process 1, that one takes over after the preparation. It has the results in
# /kvmprobe-lab-results, and runs the command, leaves those three files and powers off itself.

export PATH=/bin
results=/results

note() {
	echo "kvmprobe-lab: $*" >/dev/console
	[ -e $results/mark ] && echo "$*" >>$results/notes
}

die() {
	note "$*"
	sync
	poweroff -f
}

mark() {
	echo "$1" >$results/mark
}

# attach TYPE SOURCE TARGET OPTIONS
attach() {
	mkdir -p "$3"
	mount -t "$1" -o "$4" "$2" "$3" || die "cannot mount $1 $2 on $3"
}

# Files that come and go on the host are safe to cache, for the guest is gone in seconds.
share="trans=virtio,version=9p2000.L,msize=262144"

attach proc proc /proc defaults
attach sysfs sys /sys defaults
attach devtmpfs dev /dev defaults
echo kvmprobe-lab >/proc/sys/kernel/hostname
echo "kvmprobe-lab: init" >/dev/console

# What is built in cannot be loaded, so /proc/filesystems decides. A missing virtio shows when 9p is mounted.
modprobe -a virtio_pci 9pnet_virtio 9p overlay 2>/modprobe-said
modprobe -a virtio_blk squashfs 2>/dev/null
for name in 9p overlay; do
	grep -qw $name /proc/filesystems || die "this kernel has no $name: $(cat /modprobe-said)"
done

attach 9p results $results "$share,cache=none"
mark init

if [ -b /dev/vda ]; then
	attach squashfs /dev/vda /ro ro
else
	attach 9p root /ro "$share,cache=loose,ro"
fi
attach tmpfs tmpfs /rw defaults
mkdir /rw/upper /rw/work
attach overlay overlay /newroot "lowerdir=/ro,upperdir=/rw/upper,workdir=/rw/work"
grep -q securityfs /proc/filesystems && attach securityfs security /sys/kernel/security defaults
grep -q cgroup2 /proc/filesystems && attach cgroup2 cgroup2 /sys/fs/cgroup defaults
for name in dev proc sys; do
	mkdir -p /newroot/$name
	mount -o rbind /$name /newroot/$name || die "cannot bind /$name"
done
mkdir -p /newroot/lib/modules /newroot/kvmprobe-lab
mount -o bind /lib/modules /newroot/lib/modules || die "cannot bind /lib/modules"
mount -o bind /lab /newroot/kvmprobe-lab || die "cannot bind /lab"
# What the host's modprobe is told and what its udev knows is not true of the guest.
for name in /etc/modprobe.d /run/modprobe.d /run/udev; do
	[ -d /newroot$name ] && attach tmpfs tmpfs /newroot$name defaults
done

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mark prepare
chroot /newroot /bin/sh /kvmprobe-lab/prepare </dev/null >$results/prepare 2>&1 ||
	note "the preparation ended with status $?: $(cat $results/prepare)"

mark command
if [ -e /lab/init ]; then
	# The root itself, for systemd gives services mounts of their own; not by switch_root, which deletes what is bound here.
	mkdir -p /newroot/kvmprobe-lab-results
	mount -o bind $results /newroot/kvmprobe-lab-results || die "cannot bind $results"
	next=$(cat /lab/init)
	cd /newroot && mount -o move . / && exec chroot . "$next"
	die "cannot run $next"
fi
chroot /newroot /bin/sh /kvmprobe-lab/command </dev/null >$results/stdout 2>$results/stderr
echo $? >$results/status.new
sync
mv $results/status.new $results/status || note "cannot leave the status"
poweroff -f
