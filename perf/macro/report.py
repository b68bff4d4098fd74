"""Medians, ratios of pairs and the table."""

import platform
import statistics
import subprocess

# Row, what is compared, the most it may be, as the project's goals say it.
GOALS = [
    ("req2", "ratio", 1.0),
    ("req400", "ratio", 1.5),
    ("sse500", "ratio", 0.95),
    ("sse1500", "ratio", 1.0),
    ("split2", "ratio", 1.7),
    ("split400", "ratio", 1.4),
    ("memory", "value", 12.0),
    ("system_calls", "value", 2.1),
]

NAMES = {"direct": "direct (engine + load)", "haproxy": "HAProxy", "nginx": "nginx", "penstock": "Penstock",
         "baseline": "Penstock, baseline", "split": "Penstock, split"}


def spread(values):
    values = [v for v in values if v is not None]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": len(values)}


def pick(runs, key):
    return [None if r["void"] else r[key] for r in runs]


def pairs(a, b, combine):
    return [None if x is None or y is None else combine(x, y) for x, y in zip(a, b)]


def row(title, unit, values, reference):
    """values: column -> one number a repetition; reference: the column that ratios are taken to."""
    cells = {}
    for column, numbers in values.items():
        cell = {"value": spread(numbers), "ratio": None}
        if reference in values and column not in (reference, "direct"):
            cell["ratio"] = spread(pairs(numbers, values[reference], lambda x, y: x / y if y > 0 else None))
        cells[column] = cell
    return {"title": title, "unit": unit, "cells": cells}


def memory_of(run):
    return None if run["void"] else (run["loaded_bytes"] - run["idle_bytes"]) / max(1, run["live"]) / 1024


def cpu_row(case, columns, runs):
    unit = "CPU µs an event" if case.mode == "streams" else "CPU µs a request"
    values = {c: pick(runs[c], "peer_us" if c == "direct" else "proxy_us") for c in columns}
    return row(f"{case.title}", unit, values, "penstock" if "split" in case.columns else "haproxy")


def first_token_row(case, columns, runs):
    direct = pick(runs["direct"], "first_content_p50_us") if "direct" in columns else None
    values = {}
    for c in columns:
        mine = pick(runs[c], "first_content_p50_us")
        values[c] = mine if c == "direct" or direct is None else pairs(mine, direct, lambda x, y: x - y)
    return row(case.title, "µs, median" if direct else "µs, median, not added", values, "haproxy")


def summarize(columns, cases, results, system_calls):
    rows, void = {}, {}
    for case in cases:
        taken = [c for c in columns if case.takes(c)]
        runs = {c: results[c, case.name] for c in taken}
        for c in taken:
            bad = [r["void"] for r in runs[c] if r["void"]]
            if bad:
                void[f"{c} {case.name}"] = bad
        rows[case.name] = (first_token_row if case.mode == "first_token" else cpu_row)(case, taken, runs)
        if case.name == "sse1500":
            used = {c: [memory_of(r) for r in runs[c]] for c in taken if c != "direct"}
            rows["memory"] = row("user memory a stream, 1,500 streams", "KiB", used, "haproxy")
    if system_calls:
        values = {c: [None if s["void"] else s["value"]] for c, s in system_calls.items()}
        how = ", ".join(sorted({s["how"] for s in system_calls.values() if s["how"]}))
        title = "system calls an event, 500 streams"
        rows["system_calls"] = row(title, how or "not counted", values, "haproxy")
        for c, s in system_calls.items():
            if s["void"]:
                void[f"{c} system calls"] = [s["void"]]
    return {"rows": rows, "void": void, "goals": goals(rows)}


def goals(rows):
    found = []
    for name, kind, most in GOALS:
        cell = rows.get(name, {}).get("cells", {}).get("split" if name.startswith("split") else "penstock")
        if cell:
            value = cell[kind]["median"] if cell[kind] else None
            found.append({"row": name, "kind": kind, "most": most, "value": value,
                          "met": value is not None and value <= most})
    return found


def show(cell):
    if cell is None:
        return ""
    if cell["value"] is None:
        return "void"
    median = cell["value"]["median"]
    text = f"{median:,.0f}" if median >= 100 else f"{median:.1f}" if median >= 10 else f"{median:.2f}"
    if cell["ratio"]:
        r = cell["ratio"]
        text += f" (**{r['median']:.2f}**, {r['min']:.2f} to {r['max']:.2f})"
    return text


def first_line(path_or_command):
    try:
        if isinstance(path_or_command, list):
            text = subprocess.run(path_or_command, capture_output=True, text=True, check=False).stdout
        else:
            with open(path_or_command) as f:
                text = f.read()
    except OSError:
        return "unknown"
    return text.splitlines()[0].strip() if text else "unknown"


def environment():
    model = "unknown"
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), model)
    congestion = first_line("/proc/sys/net/ipv4/tcp_congestion_control")
    haproxy = first_line(["haproxy", "-v"]).split(" - ")[0]
    return f"{model}, Linux {platform.release()}, TCP {congestion}, {haproxy}"


def table(columns, summary, reps, took):
    lines = ["| | unit | " + " | ".join(NAMES[c] for c in columns) + " | goal |",
             "|---|---|" + "---|" * (len(columns) + 1)]
    by_row = {g["row"]: g for g in summary["goals"]}
    for name, r in summary["rows"].items():
        goal = by_row.get(name)
        text = ""
        if goal:
            control = "one engine" if name.startswith("split") else "HAProxy"
            text = f"≤ {goal['most']:g}{f' x {control}' if goal['kind'] == 'ratio' else ''}: "
            text += "met" if goal["met"] else "missed"
        cells = " | ".join(show(r["cells"].get(c)) for c in columns)
        lines.append(f"| {r['title']} | {r['unit']} | {cells} | {text} |")
    lines.append("")
    lines.append(f"Medians of {reps} interleaved runs; in brackets the ratio to HAProxy's run of the same "
                 f"repetition, of split requests to Penstock's own with one engine (median, least, greatest). "
                 f"{took / 60:.1f} minutes. {summary['environment']}.")
    for where, reasons in summary["void"].items():
        lines.append(f"Void: {where}, {len(reasons)} runs ({'; '.join(sorted(set(reasons)))}).")
    return "\n".join(lines)
