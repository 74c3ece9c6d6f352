"""The servers of a comparison: what each is, how it is started, and a block for whose length one runs.

Installs nothing itself (`tools` does) and measures nothing but the start. Driven by `compare`.
"""

import contextlib
import ctypes
import dataclasses
import http.client
import os
import pathlib
import platform
import re
import signal
import socket
import subprocess
import tempfile
import time
from typing import Callable

import measure
import tools
from harness import START_SECONDS_MAX, build_version, guest, rusmd_command, stop

STOP_SECONDS = 3
POLL_SECONDS = 0.0005
KILL_TRIES_MAX = 20
PR_SET_CHILD_SUBREAPER = 36
KILL_SECONDS = 0.05


@dataclasses.dataclass(frozen=True)
class Work:
    """What the servers of one table do: the path that is asked for, the body of the answer, and rates for open-loop load."""

    name: str
    title: str
    path: str
    answer: bytes
    rates: tuple


@dataclasses.dataclass(frozen=True)
class Contestant:
    work: str
    peer: str
    label: str
    runs: str
    command: Callable
    # Prints the version, or is its text.
    version: Callable

    @property
    def key(self):
        return f"{self.work}: {self.label}"


PEERS = {"rusmd", "wasmtime", "rusm", "workerd", "node", "nginx", "gunicorn", "uwsgi"}
WORKS = [
    Work("hello", "Hello, small components", "/", b"hello world\n", (1000, 4000)),
    Work("typescript", "TypeScript", "/users/42", b"user 42", (100, 400)),
    Work("python", "Python", "/", b"hello world\n", (50, 200)),
]


def contestants(rusmd):
    """All of them, in the order of the tables."""
    def ours(work, label, runs, target):
        return Contestant(work, "rusmd", label, runs, lambda site: serve_rusmd(site, rusmd, target), lambda: build_version(rusmd))

    wasmtime = ("wasmtime", "wasmtime serve")
    return [
        ours("hello", "rusmd, wasi:http", "hello-wasi", "hello-wasi"),
        ours("hello", "rusmd, handlers", "the same answer as an action", "hello-handlers#hello"),
        Contestant("hello", *wasmtime, "hello-wasi", lambda site: serve_wasmtime(site, wasi()), wasmtime_version),
        Contestant("hello", "rusm", "RUSM, wasi:http", "hello-wasi", lambda site: serve_rusm(site, wasi()), rusm_version),
        Contestant("hello", "rusm", "RUSM, handlers", "an action, by its own SDK", serve_rusm_action, rusm_version),
        Contestant("hello", "workerd", "workerd", "JavaScript, one instance for all", serve_workerd, workerd_version),
        Contestant("hello", "node", "Node", "JavaScript, shared processes", serve_node, lambda: f"Node {printed(tools.node())}"),
        Contestant("hello", "nginx", "nginx + php-fpm", "PHP, shared processes", serve_php, php_version),
        Contestant("hello", "gunicorn", "gunicorn", "Python, shared processes", serve_gunicorn, gunicorn_version),
        Contestant("hello", "uwsgi", "uwsgi", "Python, shared processes", serve_uwsgi, uwsgi_version),
        ours("typescript", "rusmd", "ts-hello", "ts-hello"),
        Contestant("typescript", *wasmtime, "ts-hello", lambda site: serve_wasmtime(site, script()), wasmtime_version),
        Contestant("typescript", "rusm", "RUSM, wasi:http", "ts-hello", lambda site: serve_rusm(site, script()), rusm_version),
        Contestant("typescript", "rusm", "RUSM, bundle", "the same handler in its QuickJS", serve_rusm_bundle, rusm_version),
        ours("python", "rusmd", "bench-python", "bench-python"),
        Contestant("python", *wasmtime, "bench-python", lambda site: serve_wasmtime(site, python()), wasmtime_version),
        Contestant("python", "rusm", "RUSM, wasi:http", "bench-python", lambda site: serve_rusm(site, python()), rusm_version),
    ]


def wasi():
    return str(guest("hello-wasi"))


def script():
    return str(guest("ts-hello"))


def python():
    return tools.python_component()


@dataclasses.dataclass(frozen=True)
class Site:
    """Where a server is to run: its port, a directory of its own, and with how many workers if it has any."""

    port: int
    directory: pathlib.Path
    workers: int

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def fill(self, name, **words):
        """A copy of a file of `peers`, with what it leaves open filled in."""
        words = {"PORT": self.port, "DIRECTORY": self.directory, "WORKERS": self.workers, **words}
        written = self.directory / name
        source = (tools.PEERS / name).read_text()
        written.write_text(re.sub(r"@([A-Z]+)@", lambda found: str(words[found.group(1)]), source))
        return str(written)


def serve_rusmd(site, rusmd, target):
    if target == "bench-python":
        python()
    return rusmd_command(rusmd, target, site.workers, site.directory, site.address)


def serve_wasmtime(site, component):
    """Precompiled, as ours is after its first start."""
    version = wasmtime_version().split()[1]
    compiled = tools.TOOLS / f"{pathlib.Path(component).stem}-{version}.cwasm"
    if not compiled.exists() or compiled.stat().st_mtime < pathlib.Path(component).stat().st_mtime:
        tools.run([tools.wasmtime(), "compile", component, "-o", str(compiled)])
    return [tools.wasmtime(), "serve", "-Scli", "--allow-precompiled", "--addr", site.address, str(compiled)]


def serve_rusm(site, component, suffix="wasm", routes=""):
    """Compiles at each start: it has no other way."""
    wasm = site.directory / "wasm"
    wasm.mkdir()
    (wasm / f"site.{suffix}").symlink_to(component)
    listener = f'[[serve]]\nprotocol = "http"\nlisten = "{site.address}"\n'
    listener += f"{routes}[components.site]\n" if routes else 'component = "site"\n'
    (site.directory / "rusm.toml").write_text(listener)
    return [tools.rusm(), "serve"]


def serve_rusm_action(site):
    return serve_rusm(site, tools.rusm_component(), routes='[serve.routes]\n"GET /" = "site#hello"\n')


def serve_rusm_bundle(site):
    return serve_rusm(site, tools.PEERS / "user.js", "js")


def serve_workerd(site):
    return [tools.workerd(), "serve", str(tools.PEERS / "workerd.capnp"), f"--socket-addr=http={site.address}"]


def serve_node(site):
    return [tools.node(), str(tools.PEERS / "hello.mjs"), str(site.port), str(site.workers)]


def serve_php(site):
    """php-fpm is a child of the shell that becomes nginx, so that one tree has both."""
    site.directory.chmod(0o755)
    nginx, fpm = tools.nginx(), tools.php_fpm()
    configuration = site.fill("nginx.conf")
    pool = site.fill("php-fpm.conf", USER="user = nobody" if os.geteuid() == 0 else "", WORKERS=2 * site.workers)
    site.fill("hello.php")
    both = '"$1" --nodaemonize --fpm-config "$2" & exec "$3" -p "$5" -c "$4"'
    return ["sh", "-c", both, "sh", fpm, pool, nginx, configuration, str(site.directory)]


def serve_gunicorn(site):
    settings = ["--worker-class", "gthread", "--threads", "4", "--keep-alive", "75", "--workers", str(site.workers)]
    return [*tools.gunicorn(), *settings, "--no-control-socket", "--bind", site.address, "--pythonpath", str(tools.PEERS),
            "hello_wsgi"]


def serve_uwsgi(site):
    settings = ["--master", "--die-on-term", "--disable-logging", "--processes", str(site.workers)]
    keep_alive = ["--http-keepalive=75", "--add-header", "Connection: Keep-Alive"]
    return [*tools.uwsgi(), "--http", site.address, *settings, *keep_alive, "--listen", "1024", "--wsgi-file",
            str(tools.PEERS / "hello_wsgi.py")]


def printed(program, option="--version"):
    lines = subprocess.run([program, option], capture_output=True, text=True, check=False)
    return (lines.stdout + lines.stderr).strip().splitlines()[0]


def wasmtime_version():
    return printed(tools.wasmtime())


def rusm_version():
    return printed(tools.rusm())


def workerd_version():
    return printed(tools.workerd())


def php_version():
    server = printed(tools.nginx(), "-v").removeprefix("nginx version: ")
    return f"{server}; {printed(tools.php_fpm()).partition(' (')[0]}"


def gunicorn_version():
    printed_version = tools.run([*tools.gunicorn(), "--version"], env=tools.python_environment()).strip()
    version = re.search(r"[\d.]+", printed_version).group()
    return f"gunicorn {version}; Python {platform.python_version()}"


def uwsgi_version():
    return f"uwsgi {tools.run([*tools.uwsgi(), '--version'], env=tools.python_environment()).strip()}"


class NotServing(Exception):
    """A server did not answer, or not as the others do."""


@dataclasses.dataclass(frozen=True)
class Running:
    pid: int
    url: str
    address: str
    path: str
    rates: tuple
    start_ms: float


@contextlib.contextmanager
def running(contestant, work, workers):
    """Runs the server until the end of the block; it has answered once, as it should. Nothing of it is left behind."""
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        site = Site(free_port(), pathlib.Path(name), workers)
        command = contestant.command(site)
        log = site.directory / "log"
        with log.open("wb") as output:
            began = time.monotonic()
            process = subprocess.Popen(
                command, cwd=site.directory, env=tools.python_environment(), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )
        try:
            first_answer(process, site, work, began + START_SECONDS_MAX, log)
            start_ms = (time.monotonic() - began) * 1000
            yield Running(process.pid, f"http://{site.address}", site.address, work.path, work.rates, start_ms)
        finally:
            end(process)


def adopt_orphans():
    """Makes this process the parent of whatever its servers leave without one, so that none escapes and all are reaped."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def first_answer(process, site, work, deadline, log):
    """Asks until the server answers with 200: others come from servers whose second half is not up yet."""
    answer = None
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = ask(site.port, work.path)
            if answer[0] == 200:
                break
        time.sleep(POLL_SECONDS)
    if answer != (200, work.answer):
        said = log.read_text(errors="replace").strip().splitlines()[-5:]
        raise NotServing(f"answers {answer} where it should {work.answer!r}; it has said: {' / '.join(said)}")


def ask(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS_MAX)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


def end(process):
    """Stops the server by its leader, and kills what is left of its family or session, parents first: those replace children."""
    members = {pid: measure.started(pid) for pid in measure.family(process.pid)}
    stop(process, STOP_SECONDS)
    for _ in range(KILL_TRIES_MAX):
        living = [pid for pid, when in members.items() if when is not None and measure.started(pid) == when]
        left = dict.fromkeys([*living, *measure.session(process.pid)])
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(KILL_SECONDS)
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    tools.say(f"these processes do not end: {left}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
