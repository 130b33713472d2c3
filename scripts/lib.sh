# What the scripts share: Debian packages, Python, the virtual environment. Sourced by bash, with set -eu.
#
# A function whose name begins with need_ returns 70 where it fails (EX_SOFTWARE, as kvmprobe's own). With set -e the
# script then ends with 70: 1 would be read as a verdict, or as a test that failed.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$project/.venv

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

# need_packages PACKAGE… : install the Debian packages that are missing.
need_packages() {
  local missing=() package
  command -v dpkg-query >/dev/null || { say "not a Debian system, please install: $*"; return 0; }
  for package; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  if [ "$(id -u)" -ne 0 ]; then
    say "packages are missing, run as root: apt-get install ${missing[*]}"
    return 70
  fi
  say "installing ${missing[*]}"
  local log
  log=$(mktemp) || return 70
  if apt_install "${missing[@]}" >"$log" 2>&1 || { apt-get update -q && apt_install "${missing[@]}"; } >>"$log" 2>&1
  then
    rm -f "$log"
    return 0
  fi
  cat "$log" >&2
  rm -f "$log"
  say "apt-get could not install ${missing[*]}"
  return 70
}

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; }

# What the lab needs: an emulated machine, kernels and their userspace.
need_lab_packages() {
  need_packages libudev1 kmod qemu-system-x86 busybox-static zstd mmdebstrap squashfs-tools debian-archive-keyring
}

# A Python of 3.9 or later that can make virtual environments.
usable_python() {
  local candidate
  while read -r candidate; do
    "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || continue
    echo "$candidate"
    return 0
  done < <(type -ap python3)
  return 1
}

# need_venv EXTRA : the virtual environment with this checkout in it (editable) and its EXTRA ("", "[all]" or "[test]").
need_venv() {
  local base stamp wanted
  stamp=$venv/.made-for
  wanted="$(cksum <"$project/pyproject.toml") $project"
  [ -x "$venv/bin/python" ] && grep -qxF "$1 $wanted" "$stamp" 2>/dev/null && return 0
  base=$(usable_python) || { need_packages python3 python3-venv && base=$(usable_python); } ||
    { say "no Python of 3.9 or later with venv: apt-get install python3 python3-venv"; return 70; }
  say "making $venv"
  make_venv "$base" || return 70
  # The pip of Debian 11 is too old for --editable without a setup.py.
  "$venv/bin/python" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (21, 3))' ||
    venv_pip --upgrade pip || { say "pip could not upgrade itself"; return 70; }
  venv_pip --editable "$project$1" || { say "pip could not install kvmprobe$1"; return 70; }
  case $1 in # each extra contains those before it
  "") printf '%s %s\n' "" "$wanted" ;;
  "[all]") printf '%s %s\n' "" "$wanted" "[all]" "$wanted" ;;
  *) printf '%s %s\n' "" "$wanted" "[all]" "$wanted" "$1" "$wanted" ;;
  esac >"$stamp"
}

# make_venv PYTHON : the virtual environment, without anything in it; one that works is left as it is.
make_venv() {
  "$venv/bin/python" -c 'import pip' 2>/dev/null && return 0
  rm -rf "$venv"
  "$1" -m venv "$venv" && return 0
  rm -rf "$venv"
  say "$1 could not make $venv"
  return 1
}

venv_pip() { "$venv/bin/python" -m pip install -q --disable-pip-version-check --no-input "$@"; }

# need_python : set `python` to a Python of 3.9 or later, with pyudev and python-ptrace where they can be had: from
# Debian's packages, else from PyPI. kvmprobe also runs without them.
need_python() {
  local tried
  choose_python && [ -z "$missing" ] && return 0
  tried=$project/.setup-tried-by-$(id -u) # once is enough: without a network the attempt takes long
  if [ ! -e "$tried" ] || [ -z "$python" ]; then
    { : >"$tried"; } 2>/dev/null || :
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
      need_packages python3 kmod python3-pyudev python3-ptrace || need_packages python3 python3-pyudev || :
      choose_python && [ -z "$missing" ] && return 0
    fi
    need_libraries_from_pypi || :
    if choose_python && [ -n "$missing" ]; then
      say "running without $missing; remove $tried to try again"
    fi
  fi
  [ -n "$python" ] || { say "no Python of 3.9 or later: apt-get install python3"; return 70; }
}

need_libraries_from_pypi() {
  local base
  base=$(usable_python) || { say "no Python with venv, so nothing can come from PyPI"; return 70; }
  say "installing pyudev and python-ptrace into $venv"
  make_venv "$base" || return 70
  venv_pip --retries 1 --timeout 10 pyudev python-ptrace || { say "pip could not install them"; return 70; }
}

# Sets `python` to the Python that lacks the fewest libraries, and `missing` to their names. Fails without a Python.
choose_python() {
  local candidate lacking
  python='' missing=''
  while read -r candidate; do
    lacking=$(missing_libraries "$candidate") || continue
    if [ -z "$python" ] || [ ${#lacking} -lt ${#missing} ]; then # two names are longer than one
      python=$candidate missing=$lacking
    fi
    [ -n "$missing" ] || return 0
  done < <(
    echo "$venv/bin/python"
    type -ap python3
  )
  [ -n "$python" ]
}

# missing_libraries PYTHON : the libraries it lacks; fails where it is no Python of 3.9 or later.
missing_libraries() {
  [ -x "$1" ] && "$1" -c '
import sys
sys.path = [folder for folder in sys.path if folder]
from importlib.util import find_spec
print(*(name for name in ("pyudev", "ptrace") if find_spec(name) is None))
sys.exit(sys.version_info < (3, 9))' 2>/dev/null
}
