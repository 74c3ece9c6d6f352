"""What a server costs: counters of the kernel, summed over the server's process and all its descendants.

Reads /proc and runs `perf` or `strace`; starts and stops no server. Driven by `compare`.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.1
ATTACH_SECONDS_MAX = 10
IDLE_SECONDS_MAX = 5
IDLE_SHARE_MAX = 0.1
# Counted by name beside the total: what a server does for its requests, its clients and its own threads.
NAMED_CALLS = (
    "read write readv writev recvfrom recvmsg sendto sendmsg sendfile accept accept4 close shutdown poll ppoll epoll_wait "
    "epoll_pwait epoll_ctl futex sched_yield ioctl mmap munmap mprotect madvise clock_gettime timerfd_settime eventfd2"
).split()


@dataclasses.dataclass
class Counters:
    """Since the start of the processes; the difference of two is what lies between them."""

    user_seconds: float = 0
    system_seconds: float = 0
    switches: int = 0
    faults: int = 0

    def __sub__(self, other):
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other))
        # Threads that have ended take their switches along: less than nothing is nothing.
        return Counters(*(max(now - then, 0) for now, then in pairs))


def family(leader):
    """The process and its descendants, parents before their children."""
    parents = {}
    for pid in pids():
        with contextlib.suppress(OSError):
            parents[pid] = int(stat_fields(pid)[1])
    members = [leader]
    for member in members:
        members += [pid for pid, parent in parents.items() if parent == member]
    return members


def session(leader):
    """The living processes of the session that the process leads or has led, but for those that only wait to be reaped."""
    found = []
    for pid in pids():
        with contextlib.suppress(OSError):
            fields = stat_fields(pid)
            if fields[3] == str(leader) and fields[0] != "Z":
                found.append(pid)
    return found


def started(pid):
    """When the process began, in ticks, which tells it from another of the same number; none if it lives no more."""
    with contextlib.suppress(OSError):
        fields = stat_fields(pid)
        return None if fields[0] == "Z" else fields[19]
    return None


def counters(leader):
    total = Counters()
    for pid in family(leader):
        with contextlib.suppress(OSError):
            fields = [int(field) for field in stat_fields(pid)[7:15]]
            # Faults, user and system time: each has a second field for children that were waited for.
            total.faults += sum(fields[:4])
            total.user_seconds += (fields[4] + fields[6]) / TICKS_PER_SECOND
            total.system_seconds += (fields[5] + fields[7]) / TICKS_PER_SECOND
            total.switches += switches(pid)
    return total


def process_seconds(pid):
    """User and system time of the one process, without children."""
    return sum(int(field) for field in stat_fields(pid)[11:13]) / TICKS_PER_SECOND


def wait_until_idle(leader):
    """Waits for what clients have left behind: a server may still work on requests whose clients are gone."""
    deadline = time.monotonic() + IDLE_SECONDS_MAX
    before = counters(leader)
    while time.monotonic() < deadline:
        time.sleep(SAMPLE_SECONDS)
        now = counters(leader)
        spent = now - before
        if spent.user_seconds + spent.system_seconds <= SAMPLE_SECONDS * IDLE_SHARE_MAX:
            return
        before = now


def switches(pid):
    count = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            status = pathlib.Path(f"/proc/{pid}/task/{task}/status").read_text()
            count += sum(int(number) for number in re.findall(r"ctxt_switches:\s*(\d+)", status))
    return count


def memory_mib(leader):
    """Memory by proportional set size: a page that two processes share counts half for each, so the sum is what there is."""
    kib = 0
    for pid in family(leader):
        with contextlib.suppress(OSError, AttributeError):
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            kib += int(re.search(r"^Pss:\s*(\d+)", rollup, re.M).group(1))
    return kib / 1024


@contextlib.contextmanager
def peak_memory(leader):
    """Samples the memory for the length of the block; the list that it gives has one element more for each sample."""
    samples, stop = [memory_mib(leader)], threading.Event()

    def sample():
        while not stop.wait(SAMPLE_SECONDS):
            samples.append(memory_mib(leader))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
        samples.append(memory_mib(leader))


class SystemCalls:
    """Counts system calls by `perf stat` or, more slowly, by `strace -c`; by neither where neither works."""

    def __init__(self):
        self.tool = next((tool for tool in ("perf", "strace") if works(tool)), None)

    def count(self, leader, load):
        """Runs `load` meanwhile. Gives its result, and a dictionary with the calls of each name and the `total`."""
        if self.tool is None:
            return load(), {}
        processes = sorted(family(leader))
        with tempfile.TemporaryDirectory() as directory:
            output = pathlib.Path(directory, "calls")
            command = perf_command(processes, output) if self.tool == "perf" else strace_command(processes, output)
            with output.with_suffix(".log").open("wb") as log:
                tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                self.wait_for_attachment(processes)
                result = load()
            finally:
                tracer.send_signal(signal.SIGINT)
                tracer.wait()
            calls = output.read_text(errors="replace") if output.exists() else ""
        return result, perf_calls(calls) if self.tool == "perf" else strace_calls(calls)

    def wait_for_attachment(self, processes):
        """`perf` says nothing when it counts, but takes milliseconds; `strace` shows in the processes' status."""
        if self.tool == "perf":
            time.sleep(0.3)
            return
        deadline = time.monotonic() + ATTACH_SECONDS_MAX
        while time.monotonic() < deadline and not all(is_traced(pid) for pid in processes):
            time.sleep(0.01)


def works(tool):
    if not shutil.which(tool):
        return False
    trial = {"perf": ["perf", "stat", "-e", "raw_syscalls:sys_enter", "true"], "strace": ["strace", "-c", "true"]}
    return subprocess.run(trial[tool], capture_output=True, check=False).returncode == 0


def perf_command(processes, output):
    known = {path.name for path in pathlib.Path("/sys/kernel/tracing/events/syscalls").glob("sys_enter_*")}
    events = ["raw_syscalls:sys_enter"]
    events += [f"syscalls:sys_enter_{name}" for name in NAMED_CALLS if f"sys_enter_{name}" in known]
    return ["perf", "stat", "-x", ",", "-o", str(output), "-e", ",".join(events), "-p", ",".join(map(str, processes))]


def perf_calls(text):
    calls = {}
    for line in text.splitlines():
        if found := re.match(r"(\d+),[^,]*,(raw_)?syscalls:sys_enter_?(\w*),", line):
            calls[found.group(3) or "total"] = int(found.group(1))
    return calls


def strace_command(processes, output):
    return ["strace", "-c", "-f", "-o", str(output), *(f"--attach={pid}" for pid in processes)]


def strace_calls(text):
    calls = {}
    for line in text.splitlines():
        # Share, seconds, microseconds for each, calls, errors if any, name.
        if found := re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line):
            calls[found.group(2)] = int(found.group(1))
    return calls


def is_traced(pid):
    with contextlib.suppress(OSError, AttributeError):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return re.search(r"TracerPid:\s*(\d+)", status).group(1) != "0"
    return True


def pids():
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def stat_fields(pid):
    """The fields of /proc/PID/stat from the state on: 1 parent, 3 session, 7 to 10 faults, 11 to 14 times, 19 start."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
