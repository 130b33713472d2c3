"""Temporarily loaded modules in a guest: kvmprobe unloads them, however it ends."""

from __future__ import annotations

import pytest

from tests.helpers.real_kernels import Guest

pytestmark = pytest.mark.kernel

_STATE = "grep -E '^(msr|cpuid|kvm_amd|kvm) ' /proc/modules | cut -d' ' -f1 | sort | tr '\\n' ' '"


def test_temporarily_loaded_modules_are_unloaded_and_others_stay(guest: Guest) -> None:
    output = guest(
        f"""
        verdict check; echo status $?; {_STATE}; echo
        modprobe msr; verdict check; echo status $?; {_STATE}; echo
        verdict check --no-load; echo status $?; {_STATE}; echo
        modprobe -r msr; verdict check --no-load; echo status $?; {_STATE}; echo
        """
    )
    lines = output.splitlines()
    assert [line.split(":")[0] for line in lines[0::3]] == [
        *["CONFIRMED svme-set-by-create-vm"] * 3,
        "USABLE guest-ran",
    ]
    assert lines[1::3] == ["status 0"] * 4
    assert [line.split() for line in lines[2::3]] == [
        ["kvm", "kvm_amd"],
        ["kvm", "kvm_amd", "msr"],
        ["kvm", "kvm_amd", "msr"],
        ["kvm", "kvm_amd"],
    ]


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_temporarily_loaded_modules_are_unloaded_when_kvmprobe_is_killed(signal: str, guest: Guest) -> None:
    """The moments are spread over the whole run. After SIGKILL the child that unloads needs some time."""
    output = guest(
        f"""
        verdict check
        for moment in 3 7 11 15 19; do
            $kvmprobe -q >/dev/null 2>&1 & probe=$!
            sleep $((moment / 10)).$((moment % 10))
            kill -{signal} $probe 2>/dev/null
            wait $probe
            for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
                {_STATE} | grep -q msr || {_STATE} | grep -q cpuid || break
                sleep 0.5
            done
            {_STATE}; echo
        done
        """
    )
    assert [line.split() for line in output.splitlines()[1:]] == [["kvm", "kvm_amd"]] * 5


def test_closed_standard_descriptors(guest: Guest) -> None:
    """A pipe that kvmprobe opens must not become descriptor 0, 1 or 2."""
    output = guest(
        """
        for closed in '<&-' '>&-' '2>&-' '<&- >&- 2>&-'; do
            eval "$kvmprobe --json -o /report $closed"; echo status $?
        done
        """
    )
    assert output.splitlines() == ["status 0"] * 4


def test_simultaneous_probes_do_not_unload_each_others_modules(guest: Guest) -> None:
    output = guest(
        f"""
        for number in 1 2 3 4; do
            verdict check >/answer$number 2>&1 &
            sleep 0.$((number * 3))
        done
        wait
        cat /answer*; {_STATE}; echo
        """
    )
    *answers, modules = output.splitlines()
    assert len(answers) == 4
    assert "msr-unreadable" not in output
    assert modules.split() == ["kvm", "kvm_amd"]


def test_a_module_in_use_cannot_be_unloaded(guest: Guest) -> None:
    output = guest(
        f"""
        modprobe -a msr cpuid
        $kvmprobe watch -q -o /watched -- sleep 30 & watch=$!
        until ls -l /proc/$watch/fd | grep -q cpu/0/msr; do sleep 0.2; done
        modprobe -r msr 2>/dev/null; echo status $?
        kill $watch; wait $watch; modprobe -r msr; echo status $?; {_STATE}; echo
        """
    )
    assert output.splitlines() == ["status 1", "status 0", "cpuid kvm kvm_amd "]


def test_no_other_user_can_keep_the_modules_loaded(guest: Guest) -> None:
    """Another user locks every file that he may open, and never unlocks it."""
    output = guest(
        f"""
        cat >/lock.py <<'END'
import fcntl, os, time
os.setuid(65534)
locked = []
for name in ("/proc/modules", "/proc", "/proc/cpuinfo", "/sys/module", "/dev/kvm", "/dev"):
    try:
        locked.append(os.open(name, os.O_RDONLY))
        fcntl.flock(locked[-1], fcntl.LOCK_EX)
    except OSError:
        pass
print("locked", flush=True)
time.sleep(1000)
END
        python3 /lock.py >/locked & user=$!
        until grep -q locked /locked; do sleep 0.1; done
        timeout 50 $kvmprobe -q >/answer; echo status $?; head -n 1 /answer; {_STATE}; echo
        kill $user
        """
    )
    status, verdict, modules = output.splitlines()
    assert verdict.startswith("CONFIRMED")
    assert (status, modules.split()) == ("status 0", ["kvm", "kvm_amd"])


def test_load_kvm_loads_kvm_amd_and_leaves_it(guest: Guest) -> None:
    output = guest(
        f"""
        verdict check; echo status $?
        verdict check --load-kvm; echo status $?; {_STATE}; echo
        """,
        prepare=(),
    )
    lines = output.splitlines()
    assert lines[0].startswith("FAILED kvm-amd-not-loaded")
    assert lines[1] == "status 1"
    assert lines[2].startswith("CONFIRMED svme-set-by-create-vm")
    assert lines[3:] == ["status 0", "kvm kvm_amd "]
