"""Loading modules, and unloading again what was loaded, with programs of the name modprobe below another root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvmprobe.host import modprobe, run_program
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.host.temporary_modules import TemporaryModules
from tests.helpers.fake_modprobe import FakeModprobe

DEVICES = {"msr": "/dev/cpu/0/msr", "cpuid": "/dev/cpu/0/cpuid"}


@pytest.fixture
def modular(tmp_path: Path) -> Sysroot:
    """The root of a kernel with loadable modules."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").touch()
    return Sysroot(str(tmp_path))


def put_modprobe_of_msr(folder: Path, fake_modprobe: FakeModprobe) -> None:
    """A modprobe that loads and unloads msr below `folder`."""
    (folder / "dev/cpu/0").mkdir(parents=True)
    fake_modprobe(
        f"""#!/bin/sh
        cd {folder}
        if [ $1 = -r ]; then rm -r sys/module/msr; exit; fi
        mkdir -p sys/module/msr; touch dev/cpu/0/msr sys/module/msr/initstate; echo 0 >sys/module/msr/refcnt
        """
    )


def open_below(folder: Path) -> set[str]:
    """The files below a folder that this process has open."""
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return {
        target for target in (os.readlink(link) for link in links if os.path.lexists(link)) if str(folder) in target
    }


def test_when_one_of_two_modules_fails_each_has_its_own_answer(modular: Sysroot, fake_modprobe: FakeModprobe) -> None:
    fake_modprobe('#!/bin/sh\ncase "$*" in *msr*) echo "no msr"; exit 1;; esac\n')
    attempts = modprobe.load_modules(modular, "msr", "cpuid")
    assert [(a["module"], a["status"], a["output"]) for a in attempts] == [("msr", 1, "no msr"), ("cpuid", 0, "")]


def test_a_modprobe_that_hangs_is_run_once(
    modular: Sysroot, tmp_path: Path, fake_modprobe: FakeModprobe, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_modprobe(f"#!/bin/sh\necho >>{tmp_path}/called; exec sleep 600\n")
    monkeypatch.setattr(run_program, "DEADLINE_S", 1.0)
    assert [a["status"] for a in modprobe.load_modules(modular, "msr", "cpuid")] == [None, None]
    assert (tmp_path / "called").read_text() == "\n"


def test_a_device_that_is_there_is_kept_open_and_nothing_is_loaded(tmp_path: Path, fake_modprobe: FakeModprobe) -> None:
    (tmp_path / "dev/cpu/0").mkdir(parents=True)
    for device in DEVICES.values():
        (tmp_path / device[1:]).touch()
    fake_modprobe(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    with TemporaryModules(Sysroot(str(tmp_path)), DEVICES) as temporary:
        assert open_below(tmp_path) == {f"{tmp_path}{device}" for device in DEVICES.values()}
    assert temporary.attempts == []
    assert open_below(tmp_path) == set()
    assert not (tmp_path / "called").exists()


def test_a_missing_module_is_loaded_and_unloaded(modular: Sysroot, tmp_path: Path, fake_modprobe: FakeModprobe) -> None:
    put_modprobe_of_msr(tmp_path, fake_modprobe)
    with TemporaryModules(modular, {"msr": DEVICES["msr"]}) as temporary:
        assert (tmp_path / "sys/module/msr/initstate").exists()
    assert temporary.attempts == [{"module": "msr", "status": 0, "output": "", "unloaded": True}]
    assert not (tmp_path / "sys/module/msr").exists()


def test_a_module_that_another_kvmprobe_unloads_is_loaded_again(
    modular: Sysroot, tmp_path: Path, fake_modprobe: FakeModprobe
) -> None:
    """The first modprobe finds it loaded, and a moment later it is gone."""
    for name in ("dev/cpu/0", "sys/module/msr"):
        (tmp_path / name).mkdir(parents=True)
    fake_modprobe(
        f"""#!/bin/sh
        cd {tmp_path}
        if [ $1 = -r ]; then rm sys/module/msr/initstate; exit; fi
        echo >>called
        [ "$(wc -l <called)" = 1 ] || {{ touch dev/cpu/0/msr sys/module/msr/initstate; echo 0 >sys/module/msr/refcnt; }}
        """
    )
    with TemporaryModules(modular, {"msr": DEVICES["msr"]}) as temporary:
        assert (tmp_path / "sys/module/msr/initstate").exists()
    assert temporary.attempts == [{"module": "msr", "status": 0, "output": "", "unloaded": True}]
    assert (tmp_path / "called").read_text() == "\n\n"
    assert not (tmp_path / "sys/module/msr/initstate").exists()


def test_modprobe_is_not_run_on_a_kernel_without_modules(tmp_path: Path, fake_modprobe: FakeModprobe) -> None:
    fake_modprobe(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    with TemporaryModules(Sysroot(str(tmp_path)), {"msr": DEVICES["msr"]}) as temporary:
        pass
    assert temporary.attempts[0]["status"] is None
    assert "no loadable modules" in temporary.attempts[0]["output"]
    assert not (tmp_path / "called").exists()


def test_what_is_loaded_is_unloaded_where_proc_modules_could_not_be_read_at_first(
    modular: Sysroot, tmp_path: Path, fake_modprobe: FakeModprobe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One stat of /proc/modules may fail, and the next succeed."""
    put_modprobe_of_msr(tmp_path, fake_modprobe)
    exists, asked = Sysroot.exists, []

    def fails_first(self: Sysroot, name: str) -> bool:
        asked.append(name)
        return exists(self, name) and asked != ["/proc/modules"]

    monkeypatch.setattr(Sysroot, "exists", fails_first)
    with TemporaryModules(modular, {"msr": DEVICES["msr"]}):
        pass
    assert not (tmp_path / "sys/module/msr").exists()


def test_nothing_is_loaded_where_it_may_not_be(modular: Sysroot, tmp_path: Path, fake_modprobe: FakeModprobe) -> None:
    fake_modprobe(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    with TemporaryModules(modular, DEVICES, may_load=False) as temporary:
        pass
    assert temporary.attempts == []
    assert not (tmp_path / "called").exists()


def test_a_module_that_cannot_be_loaded_is_reported_and_no_descriptor_is_left(
    modular: Sysroot, fake_modprobe: FakeModprobe
) -> None:
    fake_modprobe("#!/bin/sh\necho refused; exit 1\n")
    before = set(os.listdir("/proc/self/fd"))
    with TemporaryModules(modular, DEVICES) as temporary:
        assert [a["output"] for a in temporary.attempts] == ["refused", "refused"]
    assert [a["unloaded"] for a in temporary.attempts] == [None, None]
    assert set(os.listdir("/proc/self/fd")) == before
