"""/dev/sev: the state of the PSP, which runs the firmware of SEV (kernel: drivers/crypto/ccp/sev-dev.c).

The device is opened read-only, and two commands are sent, which ask for a state. SEV_PLATFORM_STATUS changes nothing in
any kernel. SNP_PLATFORM_STATUS does not either where SNP is initialized; elsewhere some kernels initialize SNP for it
and shut it down again (since ceac7fb89e8d, until 551120148b67). So the caller says whether it may be sent.

A PSP that is dead lets the kernel wait for up to 100 s, in a state in which no signal ends the process. So a child
asks, and this process waits for it DEADLINE_S at most.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import select
import struct
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.background_child import BackgroundChild
from kvmprobe.host.sysroot import Sysroot, close_fd
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from typing import Any, Union

    from kvmprobe.model.sev_evidence import SevDevice, SevFailure, SevStatus

    Status = Union[SevStatus, SevFailure]

PATH = "/dev/sev"
DEADLINE_S = 10.0  # the PSP answers in milliseconds, but other commands may go before

# include/uapi/linux/psp-sev.h. No other command is ever sent: most of them change the platform.
SEV_ISSUE_CMD = 0xC0105300  # _IOWR('S', 0x0, struct sev_issue_cmd)
SEV_PLATFORM_STATUS = 1
SNP_PLATFORM_STATUS = 9

_ISSUE_CMD = struct.Struct("=IQI")  # struct sev_issue_cmd: cmd, data, error
# struct sev_user_data_status: api_major, api_minor, state, flags, build, guest_count
_STATUS = struct.Struct("=BBBIBI")
# struct sev_user_data_snp_status: api_major, api_minor, state, flags, build_id, flags, guest_count, and two TCB
# versions, which identify the machine's firmware for attestation and are not kept.
_SNP_STATUS = struct.Struct("=BBBBIII16x")
_MOST_BYTES = 4096


def read_device(root: Sysroot, with_snp: bool) -> SevDevice:
    """Return what /sys and /dev/sev show of the PSP.

    `with_snp`: SNP is initialized, so SNP_PLATFORM_STATUS may be sent. Below another root no device is opened.
    """
    names = root.list_folder("/sys/class/misc")
    registered = "sev" in names if names else None
    device: SevDevice = {"registered": registered, "opened": None, "platform": None, "snp_platform": None}
    # Without a driver the kernel would look for a module that has the device's number.
    if root.is_real and registered:
        device.update(_ask_in_child(with_snp))  # type: ignore[typeddict-item]
    return device


def _ask_in_child(with_snp: bool) -> dict[str, Any]:
    """The answers of _ask(), which a child process gives; ETIMEDOUT for those that did not come in time."""
    results, result = os.pipe()
    try:
        child = BackgroundChild(lambda _: _ask(result, with_snp))
    except OSError as error:
        close_fd(results)
        return {"opened": failure(error)}
    finally:
        close_fd(result)
    try:
        answers, is_complete = _read_answers(results)
    finally:
        close_fd(results)
        child.release()
        child.abandon()
    if not is_complete:
        missing = {"error": "ETIMEDOUT"}
        answers.setdefault("opened", missing)
        if answers["opened"] is True:
            answers["snp_platform" if "platform" in answers else "platform"] = missing
    return answers


def _read_answers(fd: int) -> tuple[dict[str, Any], bool]:
    """The answers that came until DEADLINE_S, and whether the child has ended by itself."""
    ends = time.monotonic() + DEADLINE_S
    text, is_complete = b"", False
    while not is_complete and len(text) < _MOST_BYTES:
        left = ends - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            break
        part = os.read(fd, _MOST_BYTES)
        is_complete = not part
        text += part
    answers: dict[str, Any] = {}
    for line in text.split(b"\n")[:-1]:
        answers.update(json.loads(line))
    return answers, is_complete


def _ask(result: int, with_snp: bool) -> None:
    """In the child: write each answer to `result` as one line of JSON."""
    try:
        fd = os.open(PATH, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        _write(result, opened=failure(error))
        return
    _write(result, opened=True)
    _write(result, platform=_platform_status(fd))
    if with_snp:
        _write(result, snp_platform=_snp_platform_status(fd))


def _write(fd: int, **answer: object) -> None:
    os.write(fd, json.dumps(answer).encode() + b"\n")  # less than PIPE_BUF: whole


def _platform_status(fd: int) -> Status:
    data = _issue(fd, SEV_PLATFORM_STATUS, _STATUS.size)
    if not isinstance(data, bytes):
        return data
    major, minor, state, _, build, guests = _STATUS.unpack(data)
    return {"api": f"{major}.{minor}", "build": build, "state": state, "guests": guests}


def _snp_platform_status(fd: int) -> Status:
    data = _issue(fd, SNP_PLATFORM_STATUS, _SNP_STATUS.size)
    if not isinstance(data, bytes):
        return data
    major, minor, state, _, build, _, guests = _SNP_STATUS.unpack(data)
    return {"api": f"{major}.{minor}", "build": build, "state": state, "guests": guests}


def _issue(fd: int, command: int, size: int) -> bytes | SevFailure:
    """SEV_ISSUE_CMD: the `size` bytes of the answer, or why there is none."""
    data = ctypes.create_string_buffer(size)
    request = bytearray(_ISSUE_CMD.pack(command, ctypes.addressof(data), 0))
    try:
        fcntl.ioctl(fd, SEV_ISSUE_CMD, request, True)
    except OSError as error:
        found: SevFailure = {"error": failure(error)["error"]}
        code = _ISSUE_CMD.unpack(request)[2]
        if code and error.errno == errno.EIO:
            found["firmware_error"] = hex(code)
        return found
    return data.raw
