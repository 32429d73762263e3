#!/usr/bin/env python3
"""A slow link on one machine: two TUN devices, one here and one in the network namespace NS, and this process between
them, which delays every packet by DELAY_MS and lets RATE_MBIT through (a queue of 100 ms, then it drops).

    ip netns add NS
    wan-link.py NS DELAY_MS RATE_MBIT &

Here is 10.78.0.1, in the namespace 10.78.0.2. Needs root and /dev/net/tun; ends with 3 where those are refused. Used by
benches/wan.sh.
"""
import collections
import errno
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

namespace, delay, rate = sys.argv[1], float(sys.argv[2]) / 1e3, float(sys.argv[3]) * 1e6 / 8
queue_bytes = max(rate * 0.1, 256 * 1024)


def run(command):
    subprocess.run(command, shell=True, check=True)


def tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH", name.encode(), 0x0001 | 0x1000))
    return device


try:
    here, there = tun("wan0"), tun("wan1")
except OSError as error:
    print(error, flush=True)
    # busy: another link is up
    sys.exit(1 if error.errno == errno.EBUSY else 3)
inside = f"ip netns exec {namespace}"
run(f"ip link set wan1 netns {namespace}")
run("ip addr add 10.78.0.1/30 dev wan0; ip link set wan0 mtu 1500 txqueuelen 1000 up")
run(f"{inside} ip addr add 10.78.0.2/30 dev wan1; {inside} ip link set wan1 mtu 1500 up; {inside} ip link set lo up")
print("link up", flush=True)

other = {here: there, there: here}
queued = {here: collections.deque(), there: collections.deque()}
free_at = {here: 0.0, there: 0.0}
while True:
    now = time.monotonic()
    due = min((q[0][0] for q in queued.values() if q), default=now + 1)
    readable, _, _ = select.select([here, there], [], [], max(0, min(due - now, 1)))
    now = time.monotonic()
    for device in readable:
        out = other[device]
        for _ in range(64):
            try:
                packet = os.read(device, 65600)
            except BlockingIOError:
                break
            start = max(now, free_at[out])
            if (start - now) * rate > queue_bytes:
                continue
            free_at[out] = start + len(packet) / rate
            queued[out].append((free_at[out] + delay, packet))
    now = time.monotonic()
    for out, q in queued.items():
        while q and q[0][0] <= now:
            try:
                os.write(out, q.popleft()[1])
            except OSError:
                pass
