"""What a comparison has found, as Markdown and JSON: medians, their ratios, and whether the targets are reached.

Measures nothing. Driven by `compare`.
"""

import json
import re
import statistics

from servers import WORKS

MARKS = ("<!-- written by tests/bench/compare --publish -->", "<!-- end -->")
CALLS_NAMED = 6
OURS, OURS_HANDLERS = "rusmd, wasi:http", "rusmd, handlers"
# Calls that move bytes. A request takes two of them for its client: one that reads it, one that writes the response.
DATA_CALLS = ("read", "write", "readv", "writev", "recvfrom", "recvmsg", "sendto", "sendmsg")
CLIENT_CALLS = 2
# The target is 4; the odd call at the start of a load is none of a request's.
WIRE_CALLS_MAX = 4.1
# Less than one fault in ten requests is the odd page of a log or a buffer, not a cost of each request.
FAULTS_MAX = 0.1
START_MS_MAX = 30


def write(result, directory):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "compare.json").write_text(json.dumps(result, indent=1) + "\n")
    (directory / "compare.md").write_text(markdown(result) + "\n")


def publish(result, root):
    """Into the document that is committed, between two marks; what stands around them is written by people."""
    results = root / "tests" / "bench" / "results"
    write(result, results)
    (results / "compare.md").unlink()
    (results / "compare.svg").write_bytes((root / "target" / "bench" / "compare.svg").read_bytes())
    document = root / "BENCHMARKS.md"
    before, _, rest = document.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    plot = "![requests per second, CPU and latency of each server](tests/bench/results/compare.svg)"
    document.write_text(f"{before}{MARKS[0]}\n{markdown(result, 3)}\n\n{plot}\n\n{MARKS[1]}{after}")


def markdown(result, level=2):
    options = result["options"]
    versions = "; ".join(dict.fromkeys(result["versions"].values()))
    lines = [
        f"{result['date']}, {result['machine']}, {result['busy_before']:.0%} of it in use before. {versions}.",
        "",
        f"`{result['command']}`: {plural(options['rounds'], 'round')}, loads of {options['seconds']} s, "
        f"{plural(options['workers'], 'worker')}. Medians; in brackets the lowest and the highest round.",
    ]
    for work in WORKS:
        entries = [entry for entry in result["servers"] if entry["work"] == work.name]
        if entries:
            lines += ["", f"{'#' * level} {work.title}", "", *costs(entries), "", *delays(entries, work), ""]
            lines += work_done(entries, result)
    if verdicts := targets(result["servers"]):
        lines += ["", f"{'#' * level} Targets", "", "| target | measured | |", "| --- | --- | --- |", *verdicts]
    if result["skipped"]:
        reasons = (f"- {name}: {reason}" for name, reason in result["skipped"].items())
        lines += ["", f"{'#' * level} Left out or given up", "", *reasons]
    return "\n".join(lines)


def costs(entries):
    yield ("| server | runs | requests/s, 32 connections | requests/s, 256 | CPU µs/request (user + system), 32 | 256 "
           "| context switches/request | page faults/request | system calls/request |")
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for entry in entries:
        few, many = figures(entry, "closed", "32"), figures(entry, "closed", "256")
        called = entry["rounds"][0].get("calls", {}).get("total")
        yield row(entry["server"], entry["runs"], rate(entry, "32"), rate(entry, "256"), cpu(few), cpu(many),
                  f"{few['switches']:.2f}", f"{few['faults']:.2f}", "" if called is None else f"{called:.1f}")


def delays(entries, work):
    rates = [str(rate) for rate in work.rates]
    each = (f"p50 / p99 / p99.9 in ms at {int(rate):,}/s | CPU µs/request there" for rate in rates)
    yield f"| server | {' | '.join(each)} | idle MiB | peak MiB | start to first response, ms |"
    yield "| --- |" + " --- | --- |" * len(rates) + " --- | --- | --- |"
    for entry in entries:
        cells = []
        for rate_name in rates:
            at = figures(entry, "open", rate_name)
            if not at:
                cells += ["cannot follow", ""]
                continue
            lost = f", {at['lost']:.0f} lost" if at["lost"] else ""
            cells += [f"{at['p50']:.2f} / {at['p99']:.2f} / {at['p999']:.2f}{lost}", cpu(at)]
        idle, peak, start = (middle(entry, key) for key in ("idle_mib", "peak_mib", "start_ms"))
        yield row(entry["server"], *cells, f"{idle:.1f}", f"{peak:.1f}", f"{start:.0f}")


def work_done(entries, result):
    """Where the work is done: by which calls, and for ours in which processes."""
    for entry in entries:
        if entry["peer"] == "rusmd":
            few = figures(entry, "closed", "32")
            yield (f"{entry['server']}: {few['leader_us']:.1f} µs of CPU for a request in the supervisor, "
                   f"{total_cpu(few) - few['leader_us']:.1f} in the workers (32 connections).")
            yield ""
    if result["system_calls_by"] is None:
        return
    yield f"System calls by name for one request (`{result['system_calls_by']}`, 32 connections):"
    yield ""
    for entry in entries:
        named = dict(entry["rounds"][0].get("calls", {}))
        named.pop("total", None)
        most = sorted(named.items(), key=lambda item: -item[1])[:CALLS_NAMED]
        if most:
            yield f"- {entry['server']}: " + ", ".join(f"`{name}` {count:.2f}" for name, count in most)


def targets(entries):
    """Rows of those targets whose servers were all measured."""
    by_name = {(entry["work"], entry["server"]): entry for entry in entries}
    hello = {name: by_name.get(("hello", name)) for name in (OURS, OURS_HANDLERS)}
    rivals = {
        "`wasmtime serve`": by_name.get(("hello", "wasmtime serve")),
        "RUSM's handlers": by_name.get(("hello", "RUSM, handlers")),
    }
    rows = []
    for name, rival in rivals.items():
        rows += faster("`wasi:http`, Rust", hello[OURS], name, rival, 3)
        rows += cheaper("`wasi:http`, Rust", hello[OURS], name, rival, 0.35)
    for name, rival in rivals.items():
        rows += faster("handlers", hello[OURS_HANDLERS], name, rival, 4)
    for name in ("workerd", "nginx + php-fpm"):
        rows += faster("handlers", hello[OURS_HANDLERS], name, by_name.get(("hello", name)), 1)
    for work, title, least in (("typescript", "TypeScript", 3), ("python", "Python", 1.5)):
        pair = by_name.get((work, "rusmd")), by_name.get((work, "wasmtime serve"))
        rows += faster(title, pair[0], "`wasmtime serve`", pair[1], least)
    for work in WORKS:
        ours = by_name.get((work.name, "rusmd" if work.name != "hello" else OURS))
        rows += no_later(work, ours, by_name.get((work.name, "wasmtime serve")))
    for name, entry in hello.items():
        rows += frugal(name, entry)
    return rows


def faster(ours_name, ours, name, theirs, least):
    for connections in ("32", "256"):
        if ours and theirs:
            ratio = figures(ours, "closed", connections)["rate"] / figures(theirs, "closed", connections)["rate"]
            much = f"at least {least}× the throughput of" if least > 1 else "ahead of"
            yield verdict(f"{ours_name}: {much} {name}, {connections} connections", f"{ratio:.2f}×", ratio >= least)


def cheaper(ours_name, ours, name, theirs, most):
    for connections in ("32", "256"):
        if ours and theirs:
            pair = [figures(entry, "closed", connections) for entry in (ours, theirs)]
            ratio = total_cpu(pair[0]) / max(total_cpu(pair[1]), 0.001)
            yield verdict(f"{ours_name}: at most {most}× the CPU time of {name}, {connections} connections",
                          f"{ratio:.2f}×", ratio <= most)


def no_later(work, ours, theirs):
    rate_name = str(work.rates[0])
    pair = [figures(entry, "open", rate_name) for entry in (ours, theirs) if entry]
    if len(pair) == 2 and all(pair):
        for key in ("p50", "p99"):
            mine, other = pair[0][key], pair[1][key]
            yield verdict(f"{work.title}: {key} no worse than `wasmtime serve`'s at {work.rates[0]:,} requests/s",
                          f"{mine:.2f} against {other:.2f} ms", mine <= other)


def frugal(name, entry):
    if entry:
        start = middle(entry, "start_ms")
        soon = f"{name}: the first response within {START_MS_MAX} ms of the start"
        yield verdict(soon, f"{start:.0f} ms", start <= START_MS_MAX)
        faults = figures(entry, "closed", "32")["faults"]
        yield verdict(f"{name}: no page fault for each request", f"{faults:.2f}", faults < FAULTS_MAX)
        if made := entry["rounds"][0].get("calls"):
            count = sum(made.get(call, 0) for call in DATA_CALLS) - CLIENT_CALLS
            yield verdict(f"{name}: at most 4 system calls on the wire for a request, both processes together",
                          f"{count:.2f}", count <= WIRE_CALLS_MAX)


def verdict(target, measured, is_reached):
    return row(target, measured, "reached" if is_reached else "**not reached**")


def figures(entry, *path):
    """The medians of the rounds that have the figures at this path; none if no round has."""
    found = []
    for each in entry["rounds"]:
        for key in path:
            each = each.get(key, {})
        if each:
            found.append(each)
    return {key: statistics.median(each[key] for each in found) for key in found[0]} if found else {}


def middle(entry, key):
    return statistics.median(each[key] for each in entry["rounds"])


def rate(entry, connections):
    rates = sorted(each["closed"][connections]["rate"] for each in entry["rounds"])
    spread = f" ({rates[0]:,.0f}–{rates[-1]:,.0f})" if len(rates) > 1 else ""
    failed = sum(each["closed"][connections]["failed"] for each in entry["rounds"])
    return f"{statistics.median(rates):,.0f}{spread}" + (f", {failed:,} failed" if failed else "")


def cpu(at):
    return f"{total_cpu(at):.1f} ({at['user_us']:.1f} + {at['system_us']:.1f})"


def total_cpu(at):
    return at["user_us"] + at["system_us"]


def plural(count, noun):
    return f"{count} {noun}{'' if count == 1 else 's'}"


def row(*cells):
    return re.sub(r" +", " ", f"| {' | '.join(cells)} |")
