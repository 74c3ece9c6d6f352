"""What the benchmark scripts share: servers that run for the length of a block, and what they cost."""

import contextlib
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUESTS = pathlib.Path(os.environ.get("GUESTS", ROOT / "target" / "guests"))
CACHE = ROOT / "target" / "bench-cache"
START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 10


class Server:
    def __init__(self, process, url, start_seconds, log=None):
        self.process, self.url, self.start_seconds, self.log = process, url, start_seconds, log

    def output(self):
        """All that it has printed so far."""
        return self.log.read_text(errors="replace")

    def resident_mib(self):
        """Resident memory of the process itself, now and at its highest."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return [int(re.search(rf"{key}:\s*(\d+)", status).group(1)) / 1024 for key in ("VmRSS", "VmHWM")]

    def workers_resident_mib(self):
        """The highest resident memory that any child of the process has had."""
        peaks = [0.0]
        for entry in os.scandir("/proc"):
            with contextlib.suppress(OSError, AttributeError):
                status = pathlib.Path(entry.path, "status").read_text() if entry.name.isdigit() else ""
                if int(re.search(r"PPid:\s*(\d+)", status).group(1)) == self.process.pid:
                    peaks.append(int(re.search(r"VmHWM:\s*(\d+)", status).group(1)) / 1024)
        return max(peaks)


@contextlib.contextmanager
def started(command, pattern):
    """Runs a server until the end of the block, once its output has matched `pattern`, whose group is the URL."""
    with tempfile.TemporaryDirectory() as directory:
        log = pathlib.Path(directory, "log")
        began = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            while not (found := re.search(pattern, log.read_text(errors="replace"))):
                if process.poll() is not None or time.monotonic() > began + START_SECONDS_MAX:
                    sys.exit(f"{command[0]} does not serve:\n{log.read_text(errors='replace')}")
                time.sleep(0.001)
            yield Server(process, found.group(1), time.monotonic() - began, log)
        finally:
            stop(process)


def stop(process, seconds=STOP_SECONDS_MAX):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def serve_rusmd(rusmd, target, workers):
    with tempfile.TemporaryDirectory() as directory:
        command = rusmd_command(rusmd, target, workers, pathlib.Path(directory))
        with started(command, r"listening on (http://[^\s/]+)") as server:
            yield server


def rusmd_command(rusmd, target, workers, directory, listen="127.0.0.1:0"):
    """Serves a component, or an action of one (`component#action`), with a manifest in `directory`."""
    component, _, action = target.partition("#")
    manifest = directory / "rusm.toml"
    serve = f'[[serve]]\nprotocol = "http"\nlisten = "{listen}"\n'
    serve += f'[serve.routes]\n"GET /" = "{target}"\n' if action else f'component = "{component}"\n'
    serve += f'[components.{component}]\nsource = "{guest(component)}"\n'
    manifest.write_text(f'[server]\ncache-dir = "{CACHE}"\n{serve}')
    return [rusmd, "--config", str(manifest), "--workers", str(workers)]


def guest(name):
    path = GUESTS / f"{name}.wasm"
    if not path.is_file():
        subprocess.run([ROOT / "scripts" / "guests", name], check=True, stdout=sys.stderr)
    return path


def build():
    """The rusmd to measure: $RUSMD, or else the release build of this tree, made when it is missing or old; cargo decides."""
    return os.environ.get("RUSMD") or built("rusmd")


def build_version(rusmd):
    """What the program says of itself, and the commit if it is this tree's."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    version = text([rusmd, "--version"])
    if os.environ.get("RUSMD"):
        return version
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"{version} ({commit})" if commit else version


def openloop():
    """The load at fixed times: $OPENLOOP, or else the example of tests/e2e, built as `build` does it."""
    return os.environ.get("OPENLOOP") or built("examples/openloop", "--examples")


def built(program, *what):
    command = ["cargo", "build", "--release", "--quiet", "--workspace", *what]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    return str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "release", program))


def busy_share():
    """The share of all CPUs that is in use now, over one second."""
    def times():
        fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    before = times()
    time.sleep(1)
    total, idle = (now - then for now, then in zip(times(), before))
    return 1 - idle / max(total, 1)


def machine():
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def text(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
