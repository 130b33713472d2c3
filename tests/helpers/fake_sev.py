"""A /dev/sev of a program, through CUSE: it answers the two status commands and logs every open and every ioctl.

    python3 fake_sev.py LOG SLOW

As root, with the module cuse loaded. While the file SLOW exists, no ioctl gets an answer.
"""

from __future__ import annotations

import os
import struct
import sys
import time

# include/uapi/linux/fuse.h
_OPEN, _RELEASE, _INTERRUPT, _IOCTL, _CUSE_INIT = 14, 18, 36, 39, 4096
_IN_HEADER = struct.Struct("=IIQQIIII")  # len, opcode, unique, nodeid, uid, gid, pid, padding
_OUT_HEADER = struct.Struct("=IiQ")
_IOCTL_IN = struct.Struct("=QIIQII")  # fh, flags, cmd, arg, in_size, out_size
_IOCTL_OUT = struct.Struct("=iIII")
_ISSUE_CMD = struct.Struct("=IQI")
_ENOTTY = 25

# include/uapi/linux/psp-sev.h: API 1.55, state 1, build 31, 2 guests; the same of SNP with 3 guests.
_ANSWERS = {
    1: struct.pack("=BBBIBI", 1, 55, 1, 0, 31, 2),
    9: struct.pack("=BBBBIIIQQ", 1, 55, 1, 1, 31, 0, 3, 7, 7),
}


def main(log_path: str, slow: str) -> None:
    fd = os.open("/dev/cuse", os.O_RDWR)
    with open(log_path, "w") as log:
        while True:
            request = os.read(fd, 1 << 17)
            _, opcode, unique, _, _, _, pid, _ = _IN_HEADER.unpack_from(request)
            body = request[_IN_HEADER.size :]
            answer, error = b"", 0
            if opcode == _CUSE_INIT:
                major, minor = struct.unpack_from("=II", body)
                # flags 0: the kernel reads and writes what the request's number states, here struct sev_issue_cmd.
                answer = struct.pack("=IIIIIIII10I", major, minor, 0, 0, 4096, 4096, 0, 0, *[0] * 10) + b"DEVNAME=sev\0"
            elif opcode == _OPEN:
                print("open", struct.unpack_from("=I", body)[0] & os.O_ACCMODE, file=log, flush=True)
                answer = struct.pack("=QII", 0, 0, 0)
            elif opcode == _IOCTL:
                _, _, request_number, _, _, _ = _IOCTL_IN.unpack_from(body)
                command, data, _ = _ISSUE_CMD.unpack_from(body[_IOCTL_IN.size :])
                print("ioctl", hex(request_number), command, file=log, flush=True)
                while os.path.exists(slow):
                    time.sleep(0.1)
                answer, error = _run(command, data, pid)
            if opcode != _INTERRUPT:
                size = _OUT_HEADER.size + len(answer)
                try:
                    os.write(fd, _OUT_HEADER.pack(size, -error, unique) + answer)
                except OSError:
                    pass  # whoever asked is gone


def _run(command: int, data: int, pid: int) -> tuple[bytes, int]:
    if command not in _ANSWERS:
        return b"", _ENOTTY
    try:
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(data)
            memory.write(_ANSWERS[command])
    except OSError:
        return b"", 14  # EFAULT
    return _IOCTL_OUT.pack(0, 0, 0, 0) + _ISSUE_CMD.pack(command, data, 0), 0


if __name__ == "__main__":
    main(*sys.argv[1:])
