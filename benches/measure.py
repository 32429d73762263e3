#!/usr/bin/env python3
"""Runs a command and appends one line of JSON to a file: how long it took, and what it and all that it started used.

    measure.py --into FILE --fields JSON [--output FILE] [--log FILE | --metrics URL] [--server PID] -- COMMAND…

wall_seconds     until the command itself ended
cpu_seconds      user and system time of the command and everything below it, also of what outlives it: this waits for that
peak_bytes       the largest resident size of any one of these processes
agent_bytes      the same of the git-lfs-cdc processes
together_bytes   all processes at one time, without what they may share (files, code)
requests         by verb: lines that were added to --log, or what SeaweedFS counts at --metrics
server_seconds   CPU time of the process --server and its children; not in cpu_seconds

agent_bytes and together_bytes are looked at five times a second, and left out of what takes less than one.
FIELDS go into the line as they are; --output gets what the command prints. Ends with the command's code; where that isn't 0, nothing is written. Needs
Linux and GNU time. Used by benches/compare.sh.
"""
import argparse
import ctypes
import json
import os
import re
import resource
import signal
import sys
import threading
import time
import urllib.request

# What is started from here begins with the size of this process; what is started from there, with 1 MB.
TIME = "/usr/bin/time"
PAGE, TICK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36


def read(path):
    """What a file of /proc says, or nothing: its process may be gone."""
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def stat(pid):
    """The fields of /proc/PID/stat after the name, which may hold spaces; they begin with the state."""
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def processes():
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


class Family:
    """The processes below this one. Those that lose their parent become its children."""

    def __init__(self):
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            sys.exit(f"measure.py: {os.strerror(ctypes.get_errno())}: this system has no PR_SET_CHILD_SUBREAPER")
        self.strangers = processes()
        self.together_bytes = self.agent_bytes = self.peak_bytes = 0

    def reap(self):
        """Collects who has ended; whether anybody is left."""
        try:
            while True:
                pid, _, used = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return True
                self.peak_bytes = max(self.peak_bytes, used.ru_maxrss * 1024)
        except ChildProcessError:
            return False

    def members(self):
        present = processes()
        # numbers come back
        self.strangers &= present
        parents = {}
        for pid in present - self.strangers:
            fields = stat(pid)
            if fields:
                parents[pid] = int(fields[1])
        found, older = set(), {os.getpid()}
        while older:
            older = {pid for pid, parent in parents.items() if parent in older}
            found |= older
        self.strangers |= parents.keys() - found
        return found

    def look(self):
        together = 0
        for pid in self.members():
            statm = read(f"/proc/{pid}/statm").split()
            peak = re.search(r"Name:\s+(\S+)[\s\S]*VmHWM:\s+(\d+) kB", read(f"/proc/{pid}/status"))
            # of one that has just ended nothing is left
            if len(statm) < 3 or not peak:
                continue
            together += (int(statm[1]) - int(statm[2])) * PAGE
            if peak[1] == "git-lfs-cdc":
                self.agent_bytes = max(self.agent_bytes, int(peak[2]) * 1024)
        self.together_bytes = max(self.together_bytes, together)

    def kill(self):
        while members := self.members():
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            self.reap()
            time.sleep(0.01)


def requests(log, metrics):
    """How many of each verb there were until now."""
    counts = {}
    if log:
        for line in read(log).splitlines():
            verb = line.split(" ", 1)[0]
            counts[verb] = counts.get(verb, 0) + 1
    if metrics:
        text = urllib.request.urlopen(metrics, timeout=30).read().decode()
        for verb, count in re.findall(r'^SeaweedFS_s3_request_total\{.*type="(\w+)"\} (\S+)$', text, re.M):
            counts[verb] = counts.get(verb, 0) + int(float(count))
    return counts


def server_seconds(pid):
    if pid is None:
        return 0.0
    lines = [stat(other) for other in processes()]
    lines = [stat(pid)] + [fields for fields in lines if fields and int(fields[1]) == pid]
    return sum(int(ticks) for fields in lines for ticks in fields[11:13]) / TICK


def run(command, output, peak, family):
    """Runs it; seconds and exit code. What its memory was goes to the file `peak`."""
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    if output:
        actions.append((os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        actions.append((os.POSIX_SPAWN_DUP2, 1, 2))
    command = [TIME, "--quiet", "--format=%M", f"--output={peak}", *command]
    start = time.monotonic()
    try:
        child = os.posix_spawn(TIME, command, os.environ, file_actions=actions)
    except OSError as error:
        sys.exit(f"measure.py: {TIME}: {error.strerror}; on Debian: apt-get install time")
    status = os.waitpid(child, 0)[1]
    seconds = time.monotonic() - start
    patience = time.monotonic() + 60
    while family.reap():
        if time.monotonic() > patience:
            family.kill()
            sys.exit("measure.py: what the command started still runs a minute after its end")
        time.sleep(0.01)
    return seconds, os.waitstatus_to_exitcode(status)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--into", required=True)
    parser.add_argument("--fields", type=json.loads, default={})
    parser.add_argument("--output")
    parser.add_argument("--log")
    parser.add_argument("--metrics")
    parser.add_argument("--server", type=int)
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


def main():
    asked = arguments()
    family = Family()

    def stopped(*_):
        family.kill()
        os._exit(143)

    signal.signal(signal.SIGTERM, stopped)
    # whoever starts this in the background has it ignore Ctrl-C; the command is not to inherit that
    signal.signal(signal.SIGINT, stopped)
    served, cpu = requests(asked.log, asked.metrics), server_seconds(asked.server)
    ended = threading.Event()

    def look_on():
        while not ended.wait(0.2):
            family.look()

    watcher = threading.Thread(target=look_on, daemon=True)
    watcher.start()
    # what ran in this process before Python may have had children too
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = asked.into + ".peak"
    seconds, code = run(asked.command, asked.output, peak, family)
    ended.set()
    watcher.join()
    memory = int(read(peak).split()[-1]) * 1024
    os.unlink(peak)
    if code != 0:
        sys.exit(code if code > 0 else 128 - code)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = {
        **asked.fields,
        "wall_seconds": round(seconds, 4),
        "cpu_seconds": round(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 4),
        "peak_bytes": max(memory, family.peak_bytes),
    }
    if seconds >= 1:
        line["together_bytes"] = family.together_bytes
        if family.agent_bytes:
            line["agent_bytes"] = family.agent_bytes
    if asked.log or asked.metrics:
        # an answer may be here before it is counted
        time.sleep(0.3)
        now = requests(asked.log, asked.metrics)
        line["requests"] = {verb: now[verb] - served.get(verb, 0) for verb in sorted(now) if now[verb] > served.get(verb, 0)}
    if asked.server is not None:
        line["server_seconds"] = round(server_seconds(asked.server) - cpu, 2)
    with open(asked.into, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    cpu, megabytes = line["cpu_seconds"], line["peak_bytes"] / 1e6
    print(f"{seconds:9.2f} s {cpu:9.2f} s CPU {megabytes:7.0f} MB", line.get("requests") or "")


main()
