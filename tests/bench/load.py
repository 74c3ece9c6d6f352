"""The clients of a comparison: a closed loop by `wrk`, and an open loop at fixed rates by `openloop`.

Starts no server. Driven by `compare`.
"""

import json
import re
import subprocess

SPARE_SECONDS = 20
# An open loop that a server cannot follow ends later than planned; one that takes this many times as long is given up.
OVERRUN_MAX = 3
OPEN_CONNECTIONS = 16


class LoadError(Exception):
    """A load did not end as it should, or was not answered."""


def closed(wrk, server, connections, seconds):
    """As many requests as the server answers over so many connections, each of which waits for its answer."""
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", server.url + server.path]
    output = run(command, seconds + SPARE_SECONDS)
    requests, spent = re.search(r"(\d+) requests in ([\d.]+\w+)", output).groups()
    refused = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", output)))
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    served = int(requests) - refused
    if served <= 0:
        raise LoadError(f"wrk -c{connections}: no request is served")
    return {
        "requests": served,
        "failed": refused + (sum(map(int, broken.groups())) if broken else 0),
        "rate": served / (milliseconds(spent) / 1000),
        "p50": percentile(output, 50),
        "p99": percentile(output, 99),
    }


def opened(openloop, server, rate, seconds):
    """Requests at fixed times. Latency counts from when a request was due, in milliseconds."""
    command = [openloop, server.address, server.path, f"{rate:.2f}", f"{seconds:.2f}", str(OPEN_CONNECTIONS)]
    result = json.loads(run(command, seconds * OVERRUN_MAX))
    lost = {status: count for status, count in result["statuses"].items() if status != "200"}
    times = {name: result[key] / 1000 for name, key in (("p50", "p50"), ("p99", "p99"), ("p999", "p999"))}
    return {"requests": result["requests"], "lost": sum(lost.values()), **times}


def run(command, seconds):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{command[0]}: not over after {seconds:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise LoadError(f"{command[0]}: {error.stderr.strip()[-200:]}") from error
    return done.stdout


def percentile(output, share):
    """Of `wrk`, which puts a space behind whole seconds."""
    found = re.search(rf"^\s+{share}%\s+([\d.]+\w+)\s*$", output, re.M)
    if not found:
        raise LoadError(f"wrk tells no latencies: {output[-300:]}")
    return milliseconds(found.group(1))


def milliseconds(figure):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", figure).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]
