"""Starting, reloading, draining: exit codes, messages, and that no stream notices."""
import asyncio
import json
import os
import signal
import socket
import tempfile
import unittest

from harness.case import Case
from harness.process import Process, Proxy, free_port, run
from harness.wire import Connection, chat, data_of, text_of

CHAT = "/v1/chat/completions"


class Gate:
    """A stream of one word, then silence until the test opens it."""

    def __init__(self):
        self.go = asyncio.Event()

    async def __call__(self, call):
        await call.head()
        await call.content("first")
        await self.go.wait()
        await call.content(" last")
        await call.finish()


class Drain(Case):
    async def begun(self, **settings):
        gate = Gate()
        engine = await self.fake(gate)
        proxy = await self.proxy(engine, **settings)
        connection = await self.connect(proxy)
        response = await connection.start(CHAT, chat())
        events = connection.events(response)
        first = [await anext(events)]
        return gate, proxy, events, first

    async def test_streams_end_well(self):
        gate, proxy, events, got = await self.begun()
        proxy.signal(signal.SIGTERM)

        async def refuses():
            try:
                (await Connection.open(proxy.address)).close()
                return False
            except OSError:
                return True
        await proxy.until(refuses, "the listener is closed")
        gate.go.set()
        got += [e async for e in events]
        self.assert_whole(got, "first last")
        self.assertEqual(await proxy.exit_code(), 0)

    async def test_the_deadline_ends_them_with_an_error(self):
        _, proxy, events, got = await self.begun(timeouts={"drain": "500ms", "drain_settle": "0s"}, expect_exit=3)
        proxy.signal(signal.SIGTERM)
        got += [e async for e in events]
        self.assertNotIn(b"data: [DONE]\n\n", got)
        self.assertEqual([data_of(e)["error"]["code"] for e in got if b'"error"' in e], ["drain_deadline"])
        self.assertEqual(await proxy.exit_code(), 3)

    async def test_it_settles_first(self):
        """Not ready at once, but still serving, with Connection: close, for drain_settle."""
        engine = await self.fake()
        proxy = await self.proxy(engine, timeouts={"drain_settle": "3s", "drain": "10s"})
        self.assertEqual((await self.get(proxy, "/health")).status, 200)
        proxy.signal(signal.SIGTERM)
        await proxy.until_admin("/readyz", 503)
        self.assertEqual((await self.get(proxy, "/health")).status, 503)
        self.assertEqual((await proxy.ask_admin("/livez")).status, 200)
        response, events = await self.stream(proxy, chat())
        self.assert_whole(events, "one two three")
        self.assertEqual(response.header("connection").lower(), "close")

    async def test_a_second_signal_cuts_short_and_cuts_nobody(self):
        """Idle connections are no loss: ending the settle time early is still a drain."""
        engine = await self.fake()
        proxy = await self.proxy(engine, timeouts={"drain_settle": "30s", "drain": "60s"})
        connection = await self.connect(proxy)
        await connection.post(CHAT, chat(stream=False))
        proxy.signal(signal.SIGTERM)
        await proxy.until_admin("/readyz", 503)
        proxy.signal(signal.SIGTERM)
        self.assertEqual(await proxy.exit_code(10), 0)

    async def test_idle_connections_do_not_hold_it_up(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        connection = await self.connect(proxy)
        await connection.post(CHAT, chat(stream=False))
        proxy.signal(signal.SIGTERM)
        self.assertTrue(await connection.closed())
        self.assertEqual(await proxy.exit_code(5), 0)

    async def test_sigint_too(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        proxy.signal(signal.SIGINT)
        self.assertEqual(await proxy.exit_code(), 0)


class Reload(Case):
    async def test_new_engines_without_touching_a_stream(self):
        gate = Gate()
        old, new = await self.fake(gate), await self.fake()
        proxy = await self.proxy(old)
        connection = await self.connect(proxy)
        response = await connection.start(CHAT, chat())
        events = connection.events(response)
        got = [await anext(events)]
        proxy.sections["pool"][0]["endpoint"] = [{"url": new.url}]
        proxy.write()
        proxy.signal(signal.SIGHUP)

        async def moved():
            await self.post(proxy, CHAT, chat(stream=False)) if new.calls else await self.reload_probe(proxy, new)
            return bool(new.calls)
        await proxy.until(moved, "the new engine gets the requests")
        gate.go.set()
        got += [e async for e in events]
        self.assert_whole(got, "first last")

    async def reload_probe(self, proxy, new):
        fleet = json.dumps(await proxy.fleet())
        if f":{new.port}" in fleet:
            await self.post(proxy, CHAT, chat(stream=False))

    async def test_a_rejected_file_keeps_the_old_one(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        before = {k: v for k, v in (await proxy.metrics()).items() if "reload" in k or "config" in k}
        proxy.write("[server]\nlisten = 3\n[nonsense]\n")
        proxy.signal(signal.SIGHUP)
        line = await proxy.wait_line(lambda l: "penstock.toml:" in l, proxy.err)
        self.assertIn("penstock.toml:", line)

        async def counted():
            return {k: v for k, v in (await proxy.metrics()).items() if "reload" in k or "config" in k} != before
        await proxy.until(counted, "a metric tells of the rejected file")
        _, events = await self.stream(proxy, chat())
        self.assert_whole(events)


class CommandLine(Case):
    async def test_every_command_tells_what_it_is_for(self):
        for command in ("serve", "check", "explain", "engine", "demo"):
            code, out, err = await run(command, "--help")
            self.assertEqual((code, err), (0, ""), command)
            self.assertIn(f"penstock {command}", out)
            code, out, err = await run(command, "--no-such-option")
            self.assertEqual((code, out), (1, ""), command)
            self.assertIn(f"penstock {command}", err)
        code, out, err = await run("serv", "-c", "x")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("did you mean 'serve'?", err)


class Configuration(Case):
    async def check(self, text, *words):
        """The file is refused with exit code 1 by `check` and `serve`, with these words."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "p.toml")
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            code, out, err = await run("check", path)
            self.assertEqual(code, 1, out + err)
            for word in words:
                self.assertIn(word, out + err)
            code, out, err = await run("serve", "-c", path)
            self.assertEqual(code, 1, out + err)
            for word in words:
                self.assertIn(word, out + err)

    async def test_mistakes(self):
        pool = '[[pool]]\nname = "main"\n[[pool.endpoint]]\nurl = "http://127.0.0.1:1"\n'
        await self.check("[server]\nlistn = [\"127.0.0.1:1\"]\n" + pool, "p.toml:2:1", "listn", "listen")
        await self.check("[server]\nworkers = \"two\"\n" + pool, "p.toml:2:", "workers")
        await self.check("[server\n" + pool, "p.toml:1:")
        await self.check("[timeouts]\nconnect = \"5 parsecs\"\n" + pool, "p.toml:2:", "connect")
        await self.check("[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]\n" + pool, "127.0.0.1:1")
        await self.check(pool.replace("http://127.0.0.1:1", "ftp://x"), "ftp://x")
        await self.check("[server]\nworkers = -1\n[timeouts]\nconect = 1\n" + pool, "p.toml:2:", "p.toml:4:", "connect")
        await self.check("[server]\n", "pool")
        code, _, err = await run("check", tempfile.gettempdir())
        self.assertEqual((code, err), (1, f"{tempfile.gettempdir()}: cannot be read: Is a directory"))
        await self.check("[admin]\nlisten = \"${NOT_SET_ANYWHERE_X}\"\n" + pool, "NOT_SET_ANYWHERE_X")

    async def test_a_good_file(self):
        engine = await self.fake()
        proxy = Proxy([engine.url])
        self.addCleanup(proxy.folder.cleanup)
        code, out, err = await run("check", proxy.file)
        self.assertEqual(code, 0, out + err)

    async def test_no_such_file_and_wrong_usage(self):
        self.assertEqual((await run("serve", "-c", "/nonexistent/p.toml"))[0], 1)
        for arguments in ((), ("frobnicate",), ("serve", "--nope")):
            code, out, err = await run(*arguments)
            self.assertEqual(code, 1, (arguments, out, err))
            self.assertIn("penstock", out + err)
        code, out, err = await run("--help")
        self.assertEqual(code, 0)
        for command in ("serve", "check", "explain", "engine", "demo"):
            self.assertIn(command, out)
        self.assertEqual((await run("--version"))[0], 0)

    async def test_a_taken_port_is_exit_2(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            for settings in ({"listen": [f"127.0.0.1:{port}"]}, {"admin": {"listen": f"127.0.0.1:{port}"}}):
                proxy = Proxy(["http://127.0.0.1:1"], **settings)
                self.addCleanup(proxy.folder.cleanup)
                await Process.start(proxy)
                self.assertEqual(await proxy.exit_code(), 2, proxy.text())
                self.assertIn(str(port), "\n".join(proxy.err))


class Systemd(Case):
    async def test_notify(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "notify.sock")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.bind(path)
                notify.setblocking(False)
                engine = await self.fake()
                proxy = await self.proxy(engine, env={"NOTIFY_SOCKET": path})
                loop = asyncio.get_running_loop()
                self.assertIn(b"READY=1", await asyncio.wait_for(loop.sock_recv(notify, 4096), 10))
                proxy.signal(signal.SIGTERM)
                await proxy.exit_code()
                self.assertIn(b"STOPPING=1", await asyncio.wait_for(loop.sock_recv(notify, 4096), 10))

    async def test_listen_fds(self):
        """A socket that the service manager holds is adopted: connections made before the start are served."""
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            held.listen()
            address = f"127.0.0.1:{held.getsockname()[1]}"
            early = await Connection.open(address)
            self.addCleanup(early.close)
            engine = await self.fake()
            proxy = Proxy([engine.url], listen=[address])
            self.addCleanup(proxy.folder.cleanup)
            # LISTEN_PID must be the child's own: a shell sets it and becomes the binary.
            from harness import process
            script = 'exec 3<&"$1"; [ "$1" = 3 ] || eval "exec $1<&-"; shift; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
            child = await asyncio.create_subprocess_exec(
                "/bin/bash", "-c", script, "sh", str(held.fileno()), process.BINARY, "serve", "-c", proxy.file,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
                pass_fds=[held.fileno()])
            try:
                response = await asyncio.wait_for(early.post(CHAT, chat(stream=False)), 20)
                self.assertEqual(response.status, 200)
            finally:
                child.send_signal(signal.SIGTERM)
                _, err = await child.communicate()
            self.assertEqual(child.returncode, 0, err)


class UnderLoad(Case):
    """Signals while streams run: nobody notices."""

    async def streams(self, proxy, count, stop, results):
        async def client(number):
            done = 0
            while not stop.is_set():
                connection = None
                try:
                    connection = await Connection.open(proxy.address)
                    response = await connection.start(CHAT, chat(f"{number} {done}", max_tokens=20))
                    events = [e async for e in connection.events(response)]
                    results.append(response.status == 200 and events[-1] == b"data: [DONE]\n\n" and bool(text_of(events)))
                    done += 1
                except OSError:
                    if not stop.is_set():
                        results.append(False)
                finally:
                    if connection:
                        connection.close()
        return [asyncio.ensure_future(client(n)) for n in range(count)]

    async def test_sighup(self):
        engines = [await self.emulated("--model", "tiny") for _ in range(2)]
        proxy = await self.proxy(*engines)
        stop, results = asyncio.Event(), []
        tasks = await self.streams(proxy, 20, stop, results)
        for i in range(10):
            proxy.sections["pool"][0]["endpoint"] = [{"url": e.url} for e in (engines if i % 2 else engines[:1])]
            proxy.write()
            proxy.signal(signal.SIGHUP)
            wanted = len(results) + 20

            async def more():
                return len(results) >= wanted
            await proxy.until(more, "streams go on", 30)
        stop.set()
        await asyncio.gather(*tasks)
        self.assertTrue(all(results), f"{results.count(False)} of {len(results)} streams failed")

    async def test_sigterm(self):
        engine = await self.emulated("--model", "tiny")
        proxy = await self.proxy(engine, timeouts={"drain_settle": "0s", "drain": "30s"})
        connections = []
        for i in range(50):
            connection = await self.connect(proxy)
            response = await connection.start(CHAT, chat(str(i), max_tokens=60))
            connections.append(connection.events(response))
        proxy.signal(signal.SIGTERM)
        for events in connections:
            self.assert_whole([e async for e in events])
        self.assertEqual(await proxy.exit_code(), 0)

    async def test_kill_9_of_an_engine(self):
        """Streams on the dead engine end in one error; everything that comes later is served by the others."""
        engines = [await self.emulated("--model", "tiny") for _ in range(3)]
        proxy = await self.proxy(*engines, limits={"retry_budget": 1.0})
        counts = {"whole": 0, "error": 0, "refused": 0, "silent": 0}
        stop = asyncio.Event()

        async def client(number):
            i = 0
            while not stop.is_set():
                i += 1
                connection = await Connection.open(proxy.address)
                try:
                    response = await connection.start(CHAT, chat(f"{number} {i} " + "p" * 2000, max_tokens=30))
                    events = [e async for e in connection.events(response)] if response.status == 200 else []
                finally:
                    connection.close()
                if response.status != 200:
                    counts["refused"] += 1
                elif events and events[-1] == b"data: [DONE]\n\n":
                    counts["whole"] += 1
                elif events and b'"error"' in events[-1]:
                    counts["error"] += 1
                else:
                    counts["silent"] += 1
        tasks = [asyncio.ensure_future(client(n)) for n in range(30)]

        async def grown(to):
            async def check():
                return counts["whole"] >= to
            await proxy.until(check, f"{to} whole streams, have {counts}", 60)
        await grown(60)
        await engines[0].kill()
        await grown(counts["whole"] + 120)
        stop.set()
        await asyncio.gather(*tasks)
        self.assertEqual(counts["silent"], 0)
        self.assertEqual(counts["refused"], 0, f"a request that could be tried elsewhere failed: {counts}")
        self.assertLessEqual(counts["error"], 30, counts)

    async def test_two_thousand_streams_at_once(self):
        go, waiting = asyncio.Event(), 0

        async def script(call):
            nonlocal waiting
            await call.head()
            await call.content("first")
            waiting += 1
            await go.wait()
            for word in (" second", " third"):
                await call.content(word)
            await call.finish()
        engines = [await self.fake(script) for _ in range(2)]
        proxy = await self.proxy(*engines, timeouts={"connect": "10s"})
        firsts = 0

        async def client(number):
            nonlocal firsts
            connection = await Connection.open(proxy.address)
            try:
                response = await connection.start(CHAT, chat(str(number)))
                events, got = connection.events(response), []
                got.append(await anext(events))
                firsts += 1
                got += [e async for e in events]
                self.assert_whole(got, "first second third")
            finally:
                connection.close()
        tasks = [asyncio.ensure_future(client(n)) for n in range(2000)]

        async def all_there():
            return firsts == 2000 or any(t.done() for t in tasks)
        await proxy.until(all_there, "2,000 streams have their first token", 60)
        self.assertEqual(waiting, 2000, "streams at once")
        go.set()
        await asyncio.gather(*tasks)
        samples = await proxy.metrics()
        self.assertGreater(sum(v for k, v in samples.items() if k.startswith("penstock_requests_total")), 1999)


if __name__ == "__main__":
    unittest.main()
