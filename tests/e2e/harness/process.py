"""The real binary: started with a written configuration, watched, stopped, its output kept."""
import asyncio
import json
import os
import random
import signal
import socket
import tempfile

from .wire import Connection, Cut

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BINARY = os.environ.get("PENSTOCK", os.path.join(ROOT, "build", "release", "penstock"))
# Sanitizers make everything slower; deadlines of tests are multiplied by this, limits of the proxy are not.
SLOW = float(os.environ.get("PENSTOCK_TEST_SLOW", "1"))

_used = set()


def free_port():
    """A port below the kernel's own range, so that no outgoing connection takes it before it is bound."""
    for _ in range(1000):
        port = random.randrange(10000, 32000)
        if port in _used:
            continue
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        _used.add(port)
        return port
    raise RuntimeError("no free port")


def toml(sections):
    """{"server": {...}, "pool": [{"name": ..., "endpoint": [{...}]}]} as TOML."""
    def value(v):
        if isinstance(v, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {value(x)}" for k, x in v.items()) + "}"
        return json.dumps(v)

    def table(name, members):
        for key, v in members.items():
            if not (isinstance(v, list) and v and isinstance(v[0], dict)):
                lines.append(f"{key} = {value(v)}")
        for key, v in members.items():
            if isinstance(v, list) and v and isinstance(v[0], dict):
                for element in v:
                    lines.append(f"\n[[{name}.{key}]]")
                    table(f"{name}.{key}", element)

    lines = []
    for name, members in sections.items():
        for element in members if isinstance(members, list) else [members]:
            lines.append(f"\n[[{name}]]" if isinstance(members, list) else f"\n[{name}]")
            table(name, element)
    return "\n".join(lines) + "\n"


class Process:
    """A child whose output lines are kept while it runs."""

    def __init__(self, *arguments, env=None, pass_fds=()):
        self.arguments, self.env, self.pass_fds = arguments, env, pass_fds
        self.out, self.err, self._more = [], [], asyncio.Event()

    async def start(self):
        self.child = await asyncio.create_subprocess_exec(
            BINARY, *self.arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, limit=1 << 24, env={**os.environ, **(self.env or {})},
            pass_fds=self.pass_fds)
        self._readers = [asyncio.ensure_future(self._keep(self.child.stdout, self.out)),
                         asyncio.ensure_future(self._keep(self.child.stderr, self.err))]
        return self

    async def _keep(self, pipe, lines):
        while line := await pipe.readline():
            lines.append(line.decode(errors="replace").rstrip("\n"))
            self._more.set()
        self._more.set()

    @property
    def running(self):
        return self.child.returncode is None

    async def wait_line(self, found, lines=None, seconds=10):
        """The first line for which found(line) is true, waiting for it."""
        lines = self.out if lines is None else lines

        async def search():
            seen = 0
            while True:
                self._more.clear()
                while seen < len(lines):
                    if found(lines[seen]):
                        return lines[seen]
                    seen += 1
                if all(r.done() for r in self._readers):
                    raise AssertionError("the process ended without that line:\n" + self.text())
                await self._more.wait()
        try:
            return await asyncio.wait_for(search(), seconds * SLOW)
        except asyncio.TimeoutError:
            raise AssertionError("that line did not come:\n" + self.text()) from None

    async def until(self, condition, what, seconds=10):
        """Asks `condition` (async) until it is true."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds * SLOW
        while not await condition():
            if not self.running:
                await asyncio.gather(*self._readers)
                raise AssertionError(f"the process ended with {self.child.returncode}:\n{self.text()}")
            if loop.time() > deadline:
                raise AssertionError(f"not within {seconds * SLOW:.0f} s: {what}\n{self.text()}")
            await asyncio.sleep(0.01)

    def signal(self, number):
        self.child.send_signal(number)

    async def exit_code(self, seconds=20):
        try:
            code = await asyncio.wait_for(self.child.wait(), seconds * SLOW)
        except asyncio.TimeoutError:
            self.child.kill()
            raise AssertionError("the process did not end:\n" + self.text()) from None
        await asyncio.gather(*self._readers)
        return code

    async def kill(self):
        if self.running:
            self.child.kill()
            await self.child.wait()

    def text(self):
        return "\n".join(["-- stdout"] + self.out[-40:] + ["-- stderr"] + self.err[-60:])


async def run(*arguments, env=None):
    """Runs the binary to its end: (exit code, stdout, stderr)."""
    process = await Process(*arguments, env=env).start()
    code = await process.exit_code()
    return code, "\n".join(process.out), "\n".join(process.err)


class Proxy(Process):
    """`penstock serve` with one pool of the given engine urls. Keyword arguments are sections of the
    configuration, merged over those here."""

    def __init__(self, engines, env=None, pass_fds=(), listen=None, **sections):
        self.port, self.admin_port = free_port(), free_port()
        self.address, self.admin = f"127.0.0.1:{self.port}", f"127.0.0.1:{self.admin_port}"
        self.folder = tempfile.TemporaryDirectory(prefix="penstock-e2e-")
        self.file = os.path.join(self.folder.name, "penstock.toml")
        base = {
            "server": {"listen": listen or [self.address], "workers": 2},
            "admin": {"listen": self.admin},
            "timeouts": {"drain_settle": "0s", "drain": "10s"},
            "health": {"interval": "100ms", "scrape_interval": "100ms", "models_interval": "1s"},
            "log": {"access": "stdout"},
            "pool": [{"name": "main", "models": ["*"], "endpoint": [{"url": u} if isinstance(u, str) else u for u in engines]}],
        }
        for name, members in sections.items():
            base[name] = {**base[name], **members} if isinstance(members, dict) and name in base else members
        self.sections = base
        self.write()
        super().__init__("serve", "-c", self.file, env=env, pass_fds=pass_fds)

    def write(self, text=None):
        with open(self.file, "w", encoding="utf-8") as f:
            f.write(toml(self.sections) if text is None else text)

    async def start(self):
        await super().start()
        await self.until_admin("/readyz", 200)
        return self

    async def ask_admin(self, target):
        connection = await Connection.open(self.admin)
        try:
            return await connection.request("GET", target, headers=[("Connection", "close")])
        finally:
            connection.close()

    async def until_admin(self, target, status):
        async def answered():
            try:
                return (await self.ask_admin(target)).status == status
            except (OSError, Cut):
                return False
        await self.until(answered, f"{target} answers {status}")

    async def metrics(self):
        """{"name{labels}": value} of /metrics."""
        response = await self.ask_admin("/metrics")
        assert response.status == 200, response.status
        samples = {}
        for line in response.body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                assert name not in samples, f"{name} occurs twice"
                samples[name] = float(value)
        return samples

    async def fleet(self):
        response = await self.ask_admin("/debug/fleet")
        assert response.status == 200, response.status
        return response.json()

    async def access_log(self, count):
        """The access log in the order of time, as soon as it has `count` lines: each worker writes its own lines in
        order, the lines of several workers mix."""
        async def enough():
            return sum(1 for line in self.out if line.startswith("{")) >= count
        await self.until(enough, f"{count} access log lines")
        return sorted((json.loads(line) for line in self.out if line.startswith("{")), key=lambda r: r["time"])

    async def stop(self, number=signal.SIGTERM):
        """The exit code after a signal."""
        if self.running:
            self.signal(number)
        code = await self.exit_code()
        self.folder.cleanup()
        return code


class Engine(Process):
    """`penstock engine`: the emulated engine as a process of its own."""

    def __init__(self, *arguments):
        self.port = free_port()
        self.address, self.url = f"127.0.0.1:{self.port}", f"http://127.0.0.1:{self.port}"
        super().__init__("engine", "--port", str(self.port), *arguments)

    async def start(self):
        await super().start()

        async def serves():
            try:
                connection = await Connection.open(self.address)
                try:
                    return (await connection.request("GET", "/health")).status == 200
                finally:
                    connection.close()
            except OSError:
                return False
        await self.until(serves, "the emulated engine serves")
        return self
