"""A star of slow, lossy links between network namespaces, packet by packet, where the kernel itself has no such queue.

Each party's device is a TUN; one thread takes every packet from one and hands it to another, after the link's delay, at
its rate, or not at all. A link is a site's: both of its directions have the same delay, loss and rate.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import os
import random
import selectors
import socket
import struct
import threading
import time
from collections.abc import Mapping
from pathlib import Path

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI, _CLONE_NEWNET = 0x400454CA, 0x0001, 0x1000, 0x40000000
_LONGEST_QUEUE_S = 0.5
_LIBC = ctypes.CDLL(None, use_errno=True)


def open_device(space: str, device: str) -> int:
    """A handle on a TUN device of a namespace, which has been made there before."""
    found: list[int | OSError] = []

    def enter() -> None:
        # Only this thread moves; the handle serves all.
        try:
            with (Path("/var/run/netns") / space).open("rb") as namespace:
                if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH", device.encode(), _IFF_TUN | _IFF_NO_PI))
            found.append(handle)
        except OSError as fault:
            found.append(fault)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


class Wires:
    """Links between devices, by address.

    Parameters
    ----------
    devices : handle by address; hub : the address whose link is perfect.
    """

    def __init__(
        self,
        devices: Mapping[str, int],
        hub: str,
        *,
        delay_s: float,
        loss: float,
        bits_per_s: float,
        seed: int = 1,
    ) -> None:
        self._devices = {socket.inet_aton(address): handle for address, handle in devices.items()}
        self._hub, self._draw = socket.inet_aton(hub), random.Random(seed)
        self._delay_s, self._loss, self._rate = delay_s, loss, bits_per_s
        self._busy: dict[tuple[bytes, bool], float] = {}
        self._cut: set[bytes] = set()
        self._due: list[tuple[float, int, int, bytes]] = []
        self._count, self._ends = itertools.count(), False
        self.carried, self.lost = 0, 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self, address: str, *, off: bool) -> None:
        """Cut a site off, or let it back."""
        (self._cut.add if off else self._cut.discard)(socket.inet_aton(address))

    def close(self) -> None:
        """End the thread and close all devices."""
        self._ends = True
        self._thread.join()
        for handle in self._devices.values():
            os.close(handle)

    def _run(self) -> None:
        with selectors.DefaultSelector() as ready:
            for handle in self._devices.values():
                ready.register(handle, selectors.EVENT_READ)
            while not self._ends:
                wait_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else 0.05
                for key, _ in ready.select(min(wait_s, 0.05)):
                    self._take(int(key.fd))
                now = time.monotonic()
                while self._due and self._due[0][0] <= now:
                    _, _, handle, packet = heapq.heappop(self._due)
                    try:
                        os.write(handle, packet)
                    except OSError:
                        self.lost += 1  # the device is full or going away

    def _take(self, handle: int) -> None:
        for _ in range(64):
            try:
                packet = os.read(handle, 65536)
            except OSError:
                return
            source, target = packet[12:16], packet[16:20]
            if packet[0] >> 4 != 4 or target not in self._devices:
                continue
            link, up = (source, True) if target == self._hub else (target, False)
            now = time.monotonic()
            sent = max(now, self._busy.get((link, up), 0.0)) + len(packet) * 8 / self._rate
            if link in self._cut or self._draw.random() < self._loss or sent - now > _LONGEST_QUEUE_S:
                self.lost += 1
                continue
            self._busy[link, up] = sent
            self.carried += 1
            heapq.heappush(
                self._due, (sent + self._delay_s, next(self._count), self._devices[target], packet)
            )
