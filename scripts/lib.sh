# What the scripts share: Debian packages and the virtual environment. Sourced by bash, with set -eu.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$project/.venv

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

# need_packages PACKAGE… : installs what is missing with apt; says what to do where that is not possible.
need_packages() {
  local missing=() package
  command -v dpkg-query >/dev/null || { say "no apt here; please see to it that there are: $*"; return 0; }
  for package; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  if [ "$(id -u)" -ne 0 ]; then
    say "missing, and only root can install it: apt-get install ${missing[*]}"
    return 1
  fi
  say "installing ${missing[*]}"
  {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" ||
      { apt-get update -q &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; }
  } >"$project/.apt.log" 2>&1 || { cat "$project/.apt.log" >&2; say "apt could not install ${missing[*]}"; return 1; }
  rm -f "$project/.apt.log"
}

# What the lab needs: an emulated machine, kernels and their userspace.
need_lab_packages() {
  need_packages libudev1 kmod qemu-system-x86 busybox-static zstd mmdebstrap squashfs-tools debian-archive-keyring
}

# A Python of 3.9 or later that can make virtual environments.
usable_python() {
  local python
  for python in python3 /usr/bin/python3; do
    "$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null && command -v "$python" && return
  done
  return 1
}

# need_venv EXTRA : the virtual environment with this checkout in it (editable) and its EXTRA ("" or "[test]").
need_venv() {
  local python stamp wanted
  stamp=$venv/.made-for
  wanted="$1 $(cksum <"$project/pyproject.toml") $project"
  [ -x "$venv/bin/python" ] && grep -qxF "$wanted" "$stamp" 2>/dev/null && return 0
  python=$(usable_python) || { need_packages python3 python3-venv && python=$(usable_python); } ||
    { say "no Python of 3.9 or later with venv"; return 1; }
  say "making $venv"
  [ -x "$venv/bin/python" ] && "$venv/bin/python" -c '' 2>/dev/null || { rm -rf "$venv" && "$python" -m venv "$venv"; }
  local pip=("$venv/bin/python" -m pip install -q --disable-pip-version-check --no-input)
  # The pip of Debian 11 is too old for --editable without a setup.py.
  "$venv/bin/python" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (21, 3))' ||
    "${pip[@]}" --upgrade pip || { say "pip could not renew itself"; return 1; }
  "${pip[@]}" --editable "$project$1" || { say "pip could not install kvmprobe$1"; return 1; }
  # A later extra contains an earlier one: what was made for the tests serves the probe too.
  { echo "$wanted"; [ -z "$1" ] || echo " ${wanted#"$1" }"; } >"$stamp"
}
