"""A plot of a comparison as SVG: bars of requests per second, CPU time and latency for each server of each work.

Needs nothing to draw with. Measures nothing. Driven by `compare`.
"""

from xml.sax.saxutils import escape

from report import figures
from servers import WORKS

WIDTH, LABEL, BAR, LEFT = 1060, 150, 240, 12
ROW, HEAD = 26, 58
PANELS = 3
OURS, OTHERS, SECOND = "#c2410c", "#475569", 0.45
FONT = 'font-family="sans-serif" font-size="12"'


def write(result, path):
    parts, top = [], 8
    for work in WORKS:
        entries = [entry for entry in result["servers"] if entry["work"] == work.name]
        if entries:
            parts += section(work, entries, top)
            top += HEAD + ROW * len(entries) + 14
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" {FONT}>'
    path.write_text("\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n")


def section(work, entries, top):
    yield text(LEFT, top + 18, f"{work.title} (GET {work.path})", 'font-weight="bold" font-size="15"')
    for number, entry in enumerate(entries):
        yield text(LEFT, top + HEAD + ROW * number + 15, entry["server"], f'fill="{colour(entry)}"')
    for number, (title, values) in enumerate(panels(work, entries)):
        yield from panel(title, values, entries, LEFT + LABEL + number * (WIDTH - LABEL) / PANELS, top)


def panels(work, entries):
    """A title, and for each server two values, of which the second may be none."""
    few, many = ([figures(entry, "closed", connections) for entry in entries] for connections in ("32", "256"))
    low = [figures(entry, "open", str(work.rates[0])) for entry in entries]
    yield "requests/s, 32 (pale: 256) connections", [(a["rate"], b["rate"]) for a, b in zip(few, many)]
    yield "CPU µs/request, user (pale: system)", [(a["user_us"], a["system_us"]) for a in few]
    yield f"ms at {work.rates[0]:,}/s, p50 (pale: p99)", [(a.get("p50"), a.get("p99")) for a in low]


def panel(title, values, entries, left, top):
    yield text(left, top + 42, title, 'fill="#64748b"')
    highest = max((value for pair in values for value in pair if value), default=1)
    for number, (pair, entry) in enumerate(zip(values, entries)):
        row = top + HEAD + ROW * number
        for half, value in enumerate(pair):
            if value is None:
                continue
            width = max(value / highest * BAR, 0.5)
            opacity = SECOND if half else 1
            yield (f'<rect x="{left:.0f}" y="{row + half * 11}" width="{width:.1f}" height="10" fill="{colour(entry)}" '
                   f'opacity="{opacity}"/>')
            yield text(left + width + 4, row + half * 11 + 9, shown(value), 'font-size="10" fill="#334155"')


def shown(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def colour(entry):
    return OURS if entry["peer"] == "rusmd" else OTHERS


def text(x, y, content, more=""):
    return f'<text x="{x:.0f}" y="{y}" {more}>{escape(content)}</text>'
