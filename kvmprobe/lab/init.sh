#!/bin/busybox sh
# Process 1 of a guest. It makes the root: a squashfs image on /dev/vda, or /lab/root. It adds the folders of the host in
# /lab/shares (a tag of 9p and a path in each line). All are below overlays, so that programs may write everywhere and
# nothing of it stays. There it runs /lab/prepare and /lab/command.
#
# It leaves these files for the host in the share "results":
#   mark     the part that it began last: init, prepare, command
#   notes    problems on the way, a line each
#   prepare  the output of the preparation
#   stdout, stderr, and finally status, of the command
#
# If /lab/init exists, it contains the path of another process 1, which takes over after the preparation. That one has the
# share in /kvmprobe-lab-results. It runs the command, leaves the command's three files and powers off.
#
# If /lab/suspends exists, the guest is going to suspend: the driver of 9p over virtio does not survive that. Then it is
# loaded only after the command, and the files are in memory until then. The root has to be an image.

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

# need FILESYSTEM OPTION...: ends the boot if the kernel has no such filesystem; the options of its configuration give it
need() {
	grep -qw "$1" /proc/filesystems && return
	name=$1
	shift
	die "this kernel has no $name ($*): $(cat /modprobe-errors)"
}

# layer NAME PATH: mounts /ro/NAME as PATH of the root
layer() {
	mkdir -p "/rw/$1/upper" "/rw/$1/work"
	attach overlay overlay "/newroot$2" "lowerdir=/ro/$1,upperdir=/rw/$1/upper,workdir=/rw/$1/work"
}

# A cache is safe although files on the host may change: the guest lives only for seconds.
share="trans=virtio,version=9p2000.L,msize=262144"

attach proc proc /proc defaults
attach sysfs sys /sys defaults
attach devtmpfs dev /dev defaults
echo kvmprobe-lab >/proc/sys/kernel/hostname
echo "kvmprobe-lab: init" >/dev/console

# modprobe fails for what is built in, so /proc/filesystems decides. A missing virtio makes the mount of 9p fail.
share_modules="9pnet_virtio 9p"
[ -e /lab/suspends ] && share_modules=
modprobe -a virtio_pci $share_modules overlay 2>/modprobe-errors
modprobe -a virtio_blk squashfs 2>>/modprobe-errors
[ -e /lab/suspends ] || need 9p CONFIG_9P_FS CONFIG_NET_9P CONFIG_NET_9P_VIRTIO
need overlay CONFIG_OVERLAY_FS

if [ -e /lab/suspends ]; then
	attach tmpfs tmpfs $results defaults
else
	attach 9p results $results "$share,cache=none"
fi
mark init

attach tmpfs tmpfs /rw defaults
if [ ! -d /lab/root ]; then
	need squashfs CONFIG_SQUASHFS
	[ -b /dev/vda ] || die "this kernel has no /dev/vda (CONFIG_VIRTIO_BLK, CONFIG_VIRTIO_PCI)"
	attach squashfs /dev/vda /ro/image ro
	layer image ""
else
	attach tmpfs tmpfs /newroot mode=755
	busybox cp -a /lab/root/. /newroot/
	busybox chmod 1777 /newroot/tmp /newroot/var/tmp
fi
while read -r tag path; do
	attach 9p "$tag" "/ro/$tag" "$share,cache=loose,ro"
	layer "$tag" "$path"
done </lab/shares
grep -q securityfs /proc/filesystems && attach securityfs security /sys/kernel/security defaults
grep -q cgroup2 /proc/filesystems && attach cgroup2 cgroup2 /sys/fs/cgroup defaults
for name in dev proc sys; do
	mkdir -p /newroot/$name
	mount -o rbind /$name /newroot/$name || die "cannot bind /$name"
done
mkdir -p /lib/modules /newroot/lib/modules /newroot/kvmprobe-lab
mount -o bind /lib/modules /newroot/lib/modules || die "cannot bind /lib/modules"
mount -o bind /lab /newroot/kvmprobe-lab || die "cannot bind /lab"
# The configuration of the host's modprobe and the database of its udev do not fit the guest.
for name in /etc/modprobe.d /run/modprobe.d /run/udev; do
	[ -d /newroot$name ] && attach tmpfs tmpfs /newroot$name defaults
done

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mark prepare
chroot /newroot /bin/sh /kvmprobe-lab/prepare </dev/null >$results/prepare 2>&1 ||
	note "the preparation ended with status $?: $(cat $results/prepare)"

mark command
if [ -e /lab/init ]; then
	# Move the mount of the root, because systemd gives services mounts of their own. switch_root would delete the files of
	# this initramfs, which are bound into the new root.
	mkdir -p /newroot/kvmprobe-lab-results
	mount -o bind $results /newroot/kvmprobe-lab-results || die "cannot bind $results"
	next=$(cat /lab/init)
	cd /newroot && mount -o move . / && exec chroot . "$next"
	die "cannot run $next"
fi
chroot /newroot /bin/sh /kvmprobe-lab/command </dev/null >$results/stdout 2>$results/stderr
echo $? >$results/status.new
if [ -e /lab/suspends ]; then
	modprobe -a 9pnet_virtio 9p 2>>/modprobe-errors
	need 9p CONFIG_9P_FS CONFIG_NET_9P CONFIG_NET_9P_VIRTIO
	attach 9p results /share "$share,cache=none"
	busybox cp $results/* /share/
	results=/share
fi
sync
mv $results/status.new $results/status || note "cannot leave the status"
poweroff -f
