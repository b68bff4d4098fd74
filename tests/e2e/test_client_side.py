"""Clients that leave, stall, pipeline, drip bytes, and speak from other sockets."""
import asyncio
import json
import os
import tempfile
import time
import unittest

from harness.case import Case
from harness.engine import FakeEngine, well_behaved
from harness.process import SLOW, free_port
from harness.wire import Connection, chat, chunked, request_bytes, text_of

CHAT = "/v1/chat/completions"
# The promise is 20 ms; a test machine may be busy, so what is asserted is far below every timer instead.
SOON = 1.0 * SLOW


class Leaving(Case):
    """The client leaves: the engine's connection is closed at once, in every state."""

    async def leaves(self, script, until, leave, body=None):
        """Starts a request, waits for `until(call, connection)`, leaves, and returns the seconds the engine took to see it."""
        engine = await self.fake(script)
        proxy = await self.proxy(engine)
        connection = await self.connect(proxy)
        await connection.send(request_bytes("POST", CHAT, body or chat()))
        call = await engine.call()
        await until(call, connection)
        began = time.monotonic()
        leave(connection)
        await asyncio.wait_for(call.left.wait(), 10 * SLOW)
        record = (await proxy.access_log(1))[0]
        self.assertEqual(record["reason"], "client_gone")
        return call.left_at - began

    async def test_in_every_state(self):
        async def before_the_head(call):
            await call.left.wait()

        async def held_head(call):
            await call.head()
            await call.role()
            await call.left.wait()

        async def streaming(call):
            await call.head()
            while not call.left.is_set():
                await call.content("x")
                await asyncio.sleep(0.01)

        async def now(call, connection):
            pass

        async def first_event(call, connection):
            response = await connection.head()
            await anext(connection.events(response))

        leaving = {"FIN": Connection.close, "RST": Connection.reset, "half close": Connection.half_close}
        for state, script, until in [("waiting", before_the_head, now), ("held", held_head, now), ("streaming", streaming, first_event)]:
            for how, leave in leaving.items():
                with self.subTest(state=state, how=how):
                    self.assertLess(await self.leaves(script, until, leave), SOON)
        with self.subTest("not streamed"):
            self.assertLess(await self.leaves(before_the_head, now, Connection.close, chat(stream=False)), SOON)

    async def test_a_paused_read_does_not_hide_it(self):
        """The client stops reading, the engine is paused, then the client leaves."""
        filling = asyncio.Event()

        async def flood(call):
            await call.head()
            data = b"data: " + b'{"choices":[{"delta":{"content":"' + b"x" * 8000 + b'"}}]}\n\n'
            try:
                while not call.left.is_set():
                    await asyncio.wait_for(call.chunk(data), 0.5)
            except asyncio.TimeoutError:
                filling.set()
            await call.left.wait()

        async def paused(call, connection):
            await filling.wait()
        for leave in (Connection.close, Connection.reset):
            filling.clear()
            self.assertLess(await self.leaves(flood, paused, leave), SOON)

    async def test_while_sending_the_body(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        connection = await self.connect(proxy)
        await connection.send(request_bytes("POST", CHAT, chat("x" * 1000))[:-20])
        connection.close()
        record = (await proxy.access_log(1))[0]
        self.assertEqual(record["reason"], "client_gone")
        self.assertEqual(engine.calls, [])

    async def test_half_close_can_be_tolerated(self):
        go = asyncio.Event()

        async def script(call):
            await call.head()
            await call.content("a")
            await go.wait()
            await call.content("b")
            await call.finish()
        engine = await self.fake(script)
        proxy = await self.proxy(engine, server={"half_close": "tolerate"})
        connection = await self.connect(proxy)
        await connection.send(request_bytes("POST", CHAT, chat()))
        response = await connection.head()
        events = connection.events(response)
        first = [await anext(events)]
        connection.half_close()
        go.set()
        first += [e async for e in events]
        self.assert_whole(first, "ab")


class SlowReader(Case):
    async def test_only_its_own_stream_suffers(self):
        """One client reads nothing: its engine is paused, memory stays bounded, others stream on; then it reads everything."""
        total = 64 << 20
        line = b'data: {"choices":[{"delta":{"content":"' + b"x" * 8000 + b'"}}]}\n\n'
        sent = {}

        async def script(call):
            if "flood" not in call.json()["messages"][0]["content"]:
                return await well_behaved(call)
            await call.head()
            sent["bytes"] = 0
            while sent["bytes"] < total:
                await call.chunk(line)
                sent["bytes"] += len(line)
            await call.event("[DONE]")
            await call.end()
        engine = await self.fake(script)
        proxy = await self.proxy(engine, limits={"stream_buffer": "64KiB"})
        slow = await self.connect(proxy, receive_buffer=4096)
        await slow.send(request_bytes("POST", CHAT, chat("flood")))
        await engine.call()
        last, still = -1, 0
        while still < 20:                       # the engine can write no more
            still = still + 1 if sent.get("bytes") == last else 0
            last = sent.get("bytes")
            await asyncio.sleep(0.02)
        self.assertLess(last, total // 2, "nothing held the engine back")
        for i in range(5):
            _, events = await self.stream(proxy, chat(str(i)))
            self.assert_whole(events, "one two three")
        response = await slow.head()
        received = 0
        async for piece in slow.pieces(response):
            received += len(piece)
        self.assertGreater(received, total)

    async def test_a_stalled_client_is_cut(self):
        async def script(call):
            await call.head()
            while not call.left.is_set():
                await call.chunk(b'data: {"choices":[{"delta":{"content":"' + b"x" * 8000 + b'"}}]}\n\n')
        engine = await self.fake(script)
        proxy = await self.proxy(engine, timeouts={"client_stall": "300ms"}, limits={"stream_buffer": "64KiB"})
        slow = await self.connect(proxy, receive_buffer=4096)
        await slow.send(request_bytes("POST", CHAT, chat()))
        call = await engine.call()
        await asyncio.wait_for(call.left.wait(), 20 * SLOW)
        record = (await proxy.access_log(1))[0]
        self.assertEqual(record["reason"], "slow_client")


class Requests(Case):
    async def asyncSetUp(self):
        self.engine = await self.fake()

    async def test_pipelined_requests_are_answered_in_order(self):
        async def script(call):
            number = call.json()["messages"][0]["content"]
            if number == "0":
                await asyncio.sleep(0.1)        # a slow first answer must not be overtaken
            await call.stream([number])
        self.engine.script = script
        proxy = await self.proxy(self.engine)
        connection = await self.connect(proxy)
        await connection.send(b"".join(request_bytes("POST", CHAT, chat(str(i))) for i in range(8)) + request_bytes("GET", "/health"))
        for i in range(8):
            response = await connection.head()
            self.assert_whole([e async for e in connection.events(response)], str(i))
        self.assertEqual((await connection.response()).status, 200)

    async def test_keep_alive_and_close(self):
        proxy = await self.proxy(self.engine)
        connection = await self.connect(proxy)
        for _ in range(20):
            self.assertEqual((await connection.post(CHAT, chat(stream=False))).status, 200)
        response = await connection.post(CHAT, chat(stream=False), [("Connection", "close")])
        self.assertEqual(response.header("connection").lower(), "close")
        self.assertTrue(await connection.closed())
        self.assertLess(self.engine.connections, 20, "engine connections are not reused")

    async def test_expect_continue(self):
        proxy = await self.proxy(self.engine)
        body = json.dumps(chat(stream=False)).encode()
        connection = await self.connect(proxy)
        await connection.send(request_bytes("POST", CHAT, body, [("Expect", "100-continue")])[:-len(body)])
        self.assertEqual((await connection.head()).status, 100)
        await connection.send(body)
        self.assertEqual((await connection.response()).status, 200)
        self.assertIsNone(self.engine.calls[0].header("expect"))
        refused = await self.connect(proxy)
        await refused.send(request_bytes("POST", "/nowhere", body, [("Expect", "100-continue")])[:-len(body)])
        self.assertEqual((await refused.head()).status, 404)

    async def test_bodies_in_chunks_and_single_bytes(self):
        proxy = await self.proxy(self.engine)
        body = json.dumps(chat("chunky " * 30, stream=False)).encode()
        for sizes in ((1,), (3, 50, 7), (10000,)):
            connection = await self.connect(proxy)
            raw = request_bytes("POST", CHAT, b"", [("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")])
            await connection.send(raw + chunked(body, sizes))
            self.assertEqual((await connection.response()).status, 200)
            self.assertEqual(self.engine.calls[-1].body, body)
            self.assertEqual(self.engine.calls[-1].header("content-length"), str(len(body)))
        connection = await self.connect(proxy)
        await connection.send_slowly(request_bytes("POST", CHAT, body))
        self.assertEqual((await connection.response()).status, 200)
        self.assertEqual(self.engine.calls[-1].body, body)

    async def test_http_1_0(self):
        proxy = await self.proxy(self.engine)
        body = json.dumps(chat()).encode()
        connection = await self.connect(proxy)
        await connection.send(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                              % (len(body), body))
        response = await connection.head()
        self.assertIsNone(response.header("transfer-encoding"))
        self.assertIsNone(response.header("content-length"))
        self.assert_whole([e async for e in connection.events(response)], "one two three")

    async def test_a_large_prompt(self):
        proxy = await self.proxy(self.engine)
        body = chat("lorem ipsum dolor " * 200_000, stream=False)       # 3.6 MB
        response = await self.post(proxy, CHAT, body)
        self.assertEqual(response.status, 200)
        self.assertEqual(self.engine.calls[-1].body, json.dumps(body).encode())

    async def test_deadlines_of_requests(self):
        proxy = await self.proxy(self.engine, timeouts={"request_head": "200ms", "request_body": "300ms", "client_idle": "200ms",
                                                        "body_rate": "0B"})
        raw = request_bytes("POST", CHAT, chat())
        connection = await self.connect(proxy)
        await connection.send(raw[:30])
        self.assert_error(await connection.response(), 408, "head_timeout")
        self.assertTrue(await connection.closed())
        connection = await self.connect(proxy)
        await connection.send(raw[:-5])
        self.assert_error(await connection.response(), 408, "body_timeout")
        self.assertTrue(await connection.closed())
        idle = await self.connect(proxy)
        self.assertTrue(await asyncio.wait_for(idle.closed(), 10 * SLOW))

    async def test_an_id_in_flight_is_not_taken_twice(self):
        go = asyncio.Event()

        async def script(call):
            await call.head()
            await call.content("a")
            await go.wait()
            await call.finish()
        self.engine.script = script
        proxy = await self.proxy(self.engine)
        first = await self.connect(proxy)
        response = await first.start(CHAT, chat(), [("X-Request-Id", "same")])
        self.assertEqual(response.header("x-request-id"), "same")
        second = await self.connect(proxy)
        other = await second.start(CHAT, chat(), [("X-Request-Id", "same")])
        self.assertNotEqual(other.header("x-request-id"), "same")
        go.set()
        for connection, answer in ((first, response), (second, other)):
            self.assertEqual(text_of([e async for e in connection.events(answer)]), "a")


class Sockets(Case):
    async def test_unix_sockets_on_both_sides(self):
        with tempfile.TemporaryDirectory() as folder:
            engine = await FakeEngine().start(os.path.join(folder, "engine.sock"))
            self.addAsyncCleanup(engine.stop)
            path = "unix:" + os.path.join(folder, "penstock.sock")
            proxy = await self.proxy(engine, listen=[path])
            connection = await self.connect(path)
            response = await connection.start(CHAT, chat())
            self.assert_whole([e async for e in connection.events(response)], "one two three")
            self.assertTrue(proxy.running)

    async def test_a_socket_file_left_behind_is_replaced(self):
        with tempfile.TemporaryDirectory() as folder:
            engine = await self.fake()
            path = os.path.join(folder, "penstock.sock")
            first = await self.proxy(engine, listen=["unix:" + path], expect_exit=-9)
            await first.kill()
            self.assertTrue(os.path.exists(path))
            await self.proxy(engine, listen=["unix:" + path])
            self.assertEqual((await self.get("unix:" + path, "/health")).status, 200)

    async def test_several_listeners(self):
        engine = await self.fake()
        ports = [free_port() for _ in range(2)]
        await self.proxy(engine, listen=[f"127.0.0.1:{p}" for p in ports])
        for port in ports:
            self.assertEqual((await self.get(f"127.0.0.1:{port}", "/health")).status, 200)


if __name__ == "__main__":
    unittest.main()
