"""Packets with descriptors and the sender's number, as the guardian receives them without waiting.

Runs outside the sandbox's restrictions, as the sandbox's user: standard library only.
"""

from __future__ import annotations

import array
import select
import socket
import struct

CREDENTIALS = socket.CMSG_SPACE(struct.calcsize("3i"))
ONE_DESCRIPTOR = socket.CMSG_SPACE(4)
NOW = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC


def receive(server: socket.socket) -> tuple[bytes, list[int]]:
    """Return a packet and its descriptors; raises BlockingIOError where there is none."""
    data, extras, _, _ = server.recvmsg(16, socket.CMSG_SPACE(4 * 4), NOW)
    return data, unpack(extras)[1]


def unpack(extras: list[tuple[int, int, bytes]]) -> tuple[int, list[int]]:
    """Return the sender's process, as the kernel says it, and the descriptors that came along."""
    process = 0
    fds = array.array("i")
    for level, kind, data in extras:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS:
            process = struct.unpack("iII", data[:12])[0]
        elif kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) // 4 * 4])
    return process, list(fds)


def readable(fd: int | socket.socket) -> bool:
    """Whether reading would not wait."""
    return bool(select.select([fd], [], [], 0)[0])
