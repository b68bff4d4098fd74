#!/usr/bin/env python3
"""Macro benchmark: what a request and an SSE event cost in Penstock, in HAProxy, and with no proxy at all.

Runs of the columns are interleaved; see perf/README.md for the method."""

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import bodies
import proxies
import report

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PORT_BASE = 18080  # below the ephemeral range: proxy, its admin port, then the engines
ENGINES = 2
WARMUP = 0.7  # seconds from the first request, or from the last stream's start, to the window
LEAST_RATE = 0.95
MOST_WAITED = 0.05  # share of the window in which proxy or peer stood in line for its core


class Case:
    """`columns`: the only ones that it is made with; none: all but "split"."""

    def __init__(self, name, title, mode, size, columns=(), **args):
        self.name, self.title, self.mode, self.size, self.columns, self.args = name, title, mode, size, columns, args

    def takes(self, column):
        return column in self.columns if self.columns else column != "split"

    @property
    def streamed(self):
        return self.mode != "requests"


SPLIT = ("penstock", "split")

# The rates keep the proxy's core near half of its capacity for HAProxy.
CASES = [
    Case("req2", "request, 2 KB", "requests", 2 << 10, rate=20000, connections=32, window=2.5),
    Case("req32", "request, 32 KB", "requests", 32 << 10, rate=8000, connections=32, window=2.5),
    Case("req400", "request, 400 KB", "requests", 400 << 10, rate=1000, connections=16, window=2.5),
    Case("sse500", "event, 500 streams", "streams", 2 << 10, connections=500, window=4, spread=2),
    Case("sse1500", "event, 1,500 streams", "streams", 2 << 10, connections=1500, event_rate=20, window=4, spread=2),
    Case("ttfb", "added time to first byte", "first_token", 2 << 10, rate=150, connections=1, window=2),
    # One request, two engines: at rates that leave the peer's core time for both. A block of 16 tokens is some 64
    # bytes of a body, so a long prompt's hand-off names thousands.
    Case("split2", "split request, 2 KB", "requests", 2 << 10, SPLIT, rate=8000, connections=32, window=2.5,
         prefill_blocks=32),
    Case("split400", "split request, 400 KB", "requests", 400 << 10, SPLIT, rate=500, connections=16, window=2.5,
         prefill_blocks=6400),
]


class Failed(Exception):
    pass


def place(options, cpu):
    """Puts a child on its core, before all others there when that is asked for."""
    def set_scheduling():
        os.sched_setaffinity(0, {cpu})
        if options.realtime:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))

    return set_scheduling


def wait_ready(process, port):
    """Until the proxy answers a GET that an engine, or the proxy for them, says 200 to."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failed(f"{process.args[0]} exited with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.02)
    raise Failed(f"{process.args[0]} is not ready after 15 s")


def stop(process):
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGKILL)  # nothing of the proxy's end is measured
    process.wait()


class Bench:
    def __init__(self, options, directory):
        self.options, self.directory = options, directory
        self.port = options.port
        self.engine_ports = [self.port + 2 + i for i in range(ENGINES)]
        self.known = proxies.known(options.penstock, options.baseline)
        self.log = open(os.path.join(directory, "proxy.log"), "ab")
        for size, stream in {(c.size, c.streamed) for c in CASES}:
            bodies.write(self.bodies(size, stream), size, stream)

    def bodies(self, size, stream):
        return os.path.join(self.directory, f"bodies-{size}-{'stream' if stream else 'plain'}")

    def start_peer(self, case, target, extra):
        args = {"warmup": WARMUP, **case.args}
        if target == self.engine_ports[0]:
            args["window"] = min(args["window"], self.options.direct_window)
        args["window"] *= self.options.scale
        command = [self.options.peer, "--mode", case.mode, "--bodies", self.bodies(case.size, case.streamed)]
        command += ["--target", str(target)]
        for port in self.engine_ports:
            command += ["--engine-port", str(port)]
        for port in proxies.prefill_ports(self.engine_ports):
            command += ["--prefill-port", str(port)]
        for key, value in args.items():
            command += ["--" + key.replace("_", "-"), str(value)]
        command += extra
        command += ["--tick", str(self.options.tick)]
        peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                preexec_fn=place(self.options, self.options.peer_cpu))
        if peer.stdout.readline() != "ready\n":
            peer.wait()
            raise Failed("bench_peer did not start")
        return peer

    def start_proxy(self, name):
        proxy = self.known[name]
        argv = proxy.argv(self.directory, self.port, self.engine_ports)
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                   preexec_fn=place(self.options, self.options.proxy_cpu))
        try:
            wait_ready(process, self.port)
        except Failed:
            stop(process)
            raise
        return process

    def run(self, column, case, extra=(), strace=False):
        """One case through one proxy, each process fresh; "direct": the clients speak to an engine."""
        target = self.engine_ports[0] if column == "direct" else self.port
        peer, proxy = None, None
        try:
            peer = self.start_peer(case, target, list(extra))
            proxy = self.start_proxy(column) if column != "direct" else None
            peer.stdin.write(f"go {proxy.pid if proxy else 0}\n")
            peer.stdin.flush()
            result = self.follow(peer, proxy, strace)
            if column == "split" and result["prefills"] < LEAST_RATE * result["units"]:
                result["void"] = f"{result['prefills']} of {result['units']} requests were split"
            return result
        finally:
            stop(peer)
            stop(proxy)

    def follow(self, peer, proxy, strace):
        tracer = None
        trace = os.path.join(self.directory, "strace")
        for line in peer.stdout:
            if line == "open\n" and strace:
                tracer = subprocess.Popen(["strace", "-c", "-f", "-o", trace, "-p", str(proxy.pid)],
                                          stderr=subprocess.DEVNULL)
            elif line == "close\n" and tracer:
                tracer.send_signal(signal.SIGINT)
                tracer.wait()
            elif line.startswith("{"):
                result = json.loads(line)
                if tracer:
                    result["system_calls"] = strace_total(trace)
                result["void"] = why_void(result, self.options)
                return result
        raise Failed(f"bench_peer exited with {peer.wait()}; the proxy is "
                     + ("gone" if proxy and proxy.poll() is not None else "there"))

    def system_calls(self, column, case):
        """System calls an event, in a run of its own since counting makes each call dearer."""
        result = self.run(column, case, ["--count-syscalls"])
        how = "tracepoint"
        if result["system_calls"] is None:
            # strace slows the proxy too much for 500 streams.
            few = Case(case.name, case.title, case.mode, case.size, **{**case.args, "connections": 50})
            result = self.run(column, few, strace=True)
            how = "strace, 50 streams"
        count = result["system_calls"]
        return {"value": count / result["units"] if count and result["units"] else None, "how": how,
                "void": result["void"]}


def strace_total(path):
    try:
        with open(path) as f:
            fields = next((line.split() for line in f if line.rstrip().endswith(" total")), None)
    except OSError:
        return None
    return int(fields[3]) if fields else None


def why_void(result, options):
    reasons = []
    if result["rate"] < LEAST_RATE * result["nominal"]:
        reasons.append(f"{100 * result['rate'] / result['nominal']:.0f} % of its rate")
    if result["errors"]:
        reasons.append(f"{result['errors']} errors")
    if result["unfinished"]:
        reasons.append("streams without an end")
    waited = max(result["proxy_waited"], result["peer_waited"])
    if waited > MOST_WAITED and not options.allow_waiting:
        reasons.append(f"waited {100 * waited:.0f} % of the time for its core")
    if result["lost_events"]:
        reasons.append("events lost or added")
    return ", ".join(reasons)


def attempt(bench, column, case):
    """A void run is made again once; then its pair stays incomplete."""
    for _ in range(2):
        try:
            result = bench.run(column, case)
        except Failed as error:
            result = {"void": str(error)}
        if not result["void"]:
            break
    return result


def progress(rep, column, case, result):
    text = f"{rep}  {column:9} {case.name:8}"
    if "units" in result:
        own = f"{result['proxy_us']:8.2f} us ({100 * result['proxy_busy']:3.0f} % busy)"
        text += f" {own}  engine+load {result['peer_us']:6.2f} us ({100 * result['peer_busy']:3.0f} %)"
        text += f"  {result['rate']:8.0f}/s"
        text += f"  p50 {result['total_p50_us']:6.0f} us" if case.mode == "requests" else ""
        text += "" if case.mode == "requests" else f"  first token {result['first_content_p50_us']:6.0f} us"
    if result["void"]:
        text += f"  VOID: {result['void']}"
    print(text, file=sys.stderr, flush=True)


def measure(bench, columns, cases, reps):
    results = {(column, case.name): [] for column in columns for case in cases}
    for rep in range(reps):
        for case in cases:
            # Each repetition starts with another column, so that none always runs on a cool or a warm core.
            order = columns[rep % len(columns):] + columns[:rep % len(columns)]
            for column in order:
                if not case.takes(column):
                    continue
                result = attempt(bench, column, case)
                results[column, case.name].append(result)
                progress(rep + 1, column, case, result)
    return results


def count_system_calls(bench, columns, cases):
    counted = {}
    for case in cases:
        for column in columns:
            if case.name != "sse500" or column == "direct" or not case.takes(column):
                continue
            try:
                counted[column] = bench.system_calls(column, case)
            except Failed as error:
                counted[column] = {"value": None, "how": "", "void": str(error)}
    return counted


def parse_options():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--penstock", default=os.path.join(ROOT, "build/release/penstock"))
    p.add_argument("--baseline", help="another penstock binary, for a column of its own")
    p.add_argument("--peer", default=os.path.join(ROOT, "build/release/perf/macro/bench_peer"))
    p.add_argument("--reps", type=int, default=7)
    p.add_argument("--quick", action="store_true", help="2 repetitions, windows of half the length")
    p.add_argument("--only", help="cases, with commas: " + ",".join(c.name for c in CASES))
    p.add_argument("--columns", default="direct,haproxy,penstock,split", help="also: nginx")
    p.add_argument("--proxy-cpu", type=int, default=0)
    p.add_argument("--peer-cpu", type=int, default=1)
    p.add_argument("--port", type=int, default=PORT_BASE)
    p.add_argument("--tick", type=float, default=0.001,
                   help="events and requests leave at multiples of so many seconds; 0: each alone")
    p.add_argument("--realtime", action="store_true",
                   help="real-time scheduling, for a machine that others use (root)")
    p.add_argument("--allow-waiting", action="store_true",
                   help="do not void runs that had to wait for their core")
    p.add_argument("--json", help="write all results to this file")
    p.add_argument("--check", action="store_true", help="exit 1 where a goal is missed")
    options = p.parse_args()
    options.scale = 0.5 if options.quick else 1.0
    options.direct_window = 1.5
    if options.quick:
        options.reps = min(options.reps, 2)
    return options


def chosen(options):
    cases = [c for c in CASES if not options.only or c.name in options.only.split(",")]
    columns = options.columns.split(",") + (["baseline"] if options.baseline else [])
    known = proxies.known(options.penstock, options.baseline)
    for column in list(columns):
        if column != "direct" and (column not in known or known[column].missing()):
            print(f"column {column} is left out: no such program", file=sys.stderr)
            columns.remove(column)
    if not cases or not columns:
        sys.exit("nothing to run")
    if not os.path.exists(options.peer):
        sys.exit(f"{options.peer} is missing: build the target bench_peer, or name it with --peer")
    return columns, cases


def main():
    options = parse_options()
    columns, cases = chosen(options)
    os.sched_setaffinity(0, {options.peer_cpu})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as directory:
        bench = Bench(options, directory)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", options.port)) == 0:
                sys.exit(f"port {options.port} is in use; choose another with --port")
        results = measure(bench, columns, cases, options.reps)
        system_calls = count_system_calls(bench, columns, cases)
    summary = report.summarize(columns, cases, results, system_calls)
    summary["environment"] = report.environment()
    print(report.table(columns, summary, options.reps, time.monotonic() - started))
    if options.json:
        with open(options.json, "w") as f:
            runs = {f"{column}/{name}": r for (column, name), r in results.items()}
            json.dump({"summary": summary, "runs": runs}, f, indent=1)
    if options.check and not all(goal["met"] for goal in summary["goals"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
