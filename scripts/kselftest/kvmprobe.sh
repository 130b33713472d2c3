#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# kvmprobe as a TEST_PROG of kselftest: KTAP on stdout, and kselftest's exit codes. KVMPROBE names a command to run
# instead of the copy beside this file. Arguments go to 'kvmprobe check'.

# skip REASON : skips the whole test
skip() {
	printf 'KTAP version 1\n1..0 # SKIP %s\n' "$1"
	exit 4
}

[ "$(id -u)" -eq 0 ] || skip needs-root
cd "$(dirname "$0")" || exit 1
if [ -z "$KVMPROBE" ]; then
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || skip needs-python-3.9
	KVMPROBE="python3 -m kvmprobe"
fi
$KVMPROBE check --format ktap "$@"
status=$?
# Root can read everything, so "inconclusive" (3) is unexpected. Skipping would hide it, so the test fails.
case $status in
0 | 4) exit $status ;;
*) exit 1 ;;
esac
