"""What is refused, with which status, code and `param`, and that no such byte reaches an engine."""
import json
import unittest

from harness.case import Case
from harness.wire import Cut, chat, chunked, request_bytes

CHAT = "/v1/chat/completions"


class Refusals(Case):
    async def asyncSetUp(self):
        self.engine = await self.fake()
        self.target = await self.proxy(self.engine, limits={"head_bytes": "8KiB", "body_bytes": "64KiB"})

    async def refused(self, raw, status, code=None):
        """Sends bytes; the answer must be that error and nothing may reach the engine."""
        before = len(self.engine.calls)
        connection = await self.connect(self.target)
        await connection.send(raw)
        response = await connection.response()
        self.assertEqual(response.status, status, (raw[:120], response.body))
        if code:
            self.assertEqual(response.error()["code"], code, raw[:120])
        self.assertEqual(len(self.engine.calls), before, "the engine saw a refused request")
        return connection, response

    async def test_bodies(self):
        messages = [{"role": "user", "content": "x"}]
        for body, code, param in [
            (b"", "invalid_json", None),
            (b"{", "invalid_json", None),
            (b'{"model":"tiny","messages":[]} x', "invalid_json", None),
            (b'{"model":"tiny","model":"other","messages":[]}', "invalid_json", None),
            (b'{"model":"tiny","mod\\u0065l":"other","messages":[]}', "invalid_json", None),
            (b'{"model":"tiny","messages":[],"x":01}', "invalid_json", None),
            (b'{"model":"tiny","messages":[],"x":tru}', "invalid_json", None),
            (b'{"model":"tiny","messages":[],"x":"\xff"}', "invalid_json", None),
            (b'{"model":"tiny","messages":[],"x":' + b"[" * 80 + b"]" * 80 + b"}", "invalid_json", None),
            ([1, 2], "invalid_json", None),
            ({"messages": messages}, "missing_field", "model"),
            ({"model": 3, "messages": messages}, "invalid_field", "model"),
            ({"model": "tiny"}, "missing_field", "messages"),
            ({"model": "tiny", "messages": "x"}, "invalid_field", "messages"),
            ({"model": "tiny", "messages": messages, "stream": "yes"}, "invalid_field", "stream"),
        ]:
            with self.subTest(body=body if isinstance(body, bytes) else json.dumps(body)):
                response = await self.post(self.target, CHAT, body)
                self.assert_error(response, 400, code, param)
                if code == "invalid_json" and isinstance(body, bytes) and body:
                    self.assertRegex(response.error()["message"], r"\d", "the message names a byte offset")
        self.assertEqual(self.engine.calls, [])

    async def test_engine_internal_fields(self):
        for field, value in [("kv_transfer_params", {"do_remote_prefill": True}), ("bootstrap_host", "x"), ("bootstrap_port", 1),
                             ("bootstrap_room", 1), ("disaggregated_params", {}), ("ec_transfer_params", {}),
                             ("data_parallel_rank", 0), ("routed_dp_rank", 0), ("disagg_prefill_dp_rank", 0)]:
            for path, body in [(CHAT, chat()), ("/v1/completions", {"model": "tiny", "prompt": "x"}),
                               ("/v1/responses", {"model": "tiny", "input": "x"}), ("/v1/embeddings", {"model": "tiny", "input": "x"}),
                               ("/v1/other", {"model": "tiny"})]:
                with self.subTest(field=field, path=path):
                    response = await self.post(self.target, path, {**body, field: value})
                    self.assert_error(response, 400, "field_not_allowed", field)
        escaped = b'{"model":"tiny","messages":[],"kv_transfer_p\\u0061rams":{}}'
        self.assert_error(await self.post(self.target, CHAT, escaped), 400, "field_not_allowed", "kv_transfer_params")
        inner = await self.post(self.target, CHAT, chat(vllm_xargs={"kv_transfer_params": {}}))
        self.assertEqual((inner.status, inner.error()["code"]), (400, "field_not_allowed"))
        header = await self.post(self.target, CHAT, chat(), [("X-Data-Parallel-Rank", "1")])
        self.assertEqual((header.status, header.error()["code"]), (400, "field_not_allowed"))
        self.assertEqual(self.engine.calls, [])

    async def test_anthropic_shape(self):
        response = await self.post(self.target, "/v1/messages", {"model": "tiny"})
        self.assertEqual(response.status, 400)
        answer = response.json()
        self.assertEqual(answer["type"], "error")
        self.assertEqual(answer["error"]["type"], "invalid_request_error")

    async def test_paths(self):
        for method, path, status in [
            ("POST", "/v1/chat//completions", 400), ("POST", "//v1/chat/completions", 400), ("POST", "/v1/./chat/completions", 400),
            ("POST", "/v1/x/../chat/completions", 400), ("POST", "/v1/chat/%63ompletions", 400), ("POST", "/v1%2fchat/completions", 400),
            ("POST", "/invocations", 404), ("POST", "/collective_rpc", 404), ("POST", "/sleep", 404), ("GET", "/metrics", 404),
            ("GET", "/", 404), ("GET", CHAT, 405), ("DELETE", CHAT, 405), ("POST", "/v1/models", 405), ("POST", "/health", 405),
        ]:
            with self.subTest(path=path, method=method):
                await self.refused(request_bytes(method, path, b"{}" if method == "POST" else None), status)
        connection = await self.connect(self.target)
        response = await connection.request("GET", CHAT)
        self.assertIn("POST", response.header("allow"))

    async def test_smuggling(self):
        body = json.dumps(chat(stream=False)).encode()
        length = b"Content-Length: %d\r\n" % len(body)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        for name, raw, status in [
            ("length and chunked", head + length + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body), 400),
            ("two lengths", head + length + b"Content-Length: 3\r\n\r\n" + body, 400),
            ("a list of lengths", head + b"Content-Length: 3, 3\r\n\r\n{ }", 400),
            ("a signed length", head + b"Content-Length: +3\r\n\r\n{ }", 400),
            ("a huge length", head + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
            ("an unknown coding", head + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
            ("a coding with a tab", head + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
            ("chunked twice", head + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            ("a bad chunk size", head + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
            ("a chunk longer than its size", head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", 400),
            ("bare LF", head.replace(b"\r\n", b"\n") + b"\n", 400),
            ("LF in a field", b"GET /health HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
            ("obs-fold", b"GET /health HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400),
            ("NUL", b"GET /health HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n", 400),
            ("lone CR", b"GET /health HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", 400),
            ("blank before the colon", b"GET /health HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400),
            ("no Host", b"GET /health HTTP/1.1\r\n\r\n", 400),
            ("two Hosts", b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("HTTP/0.9", b"GET /health\r\n\r\n", None),
            ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
            ("RTSP", b"GET /health RTSP/1.0\r\nHost: a\r\n\r\n", None),
            ("CONNECT", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            ("an unknown method", b"BREW /health HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ]:
            with self.subTest(name):
                before = len(self.engine.calls)
                connection = await self.connect(self.target)
                await connection.send(raw)
                response = await connection.response()
                if status is None:
                    self.assertIn(response.status, (400, 501, 505))
                else:
                    self.assertEqual(response.status, status, response.body)
                self.assertTrue(await connection.closed(), "nothing after such a request may be trusted")
                self.assertEqual(len(self.engine.calls), before)

    async def test_upgrade_is_ignored(self):
        connection = await self.connect(self.target)
        response = await connection.post(CHAT, chat(stream=False), [("Connection", "Upgrade"), ("Upgrade", "websocket")])
        self.assertEqual(response.status, 200)
        self.assertIsNone(self.engine.calls[-1].header("upgrade"))

    async def test_sizes(self):
        await self.refused(b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431, "head_too_large")
        many = b"".join(b"x-%d: 1\r\n" % i for i in range(150))
        await self.refused(b"GET /health HTTP/1.1\r\nHost: a\r\n" + many + b"\r\n", 431, "head_too_large")
        big = json.dumps(chat("x" * 70000)).encode()
        # Announced: refused on sight, before the body.
        await self.refused(request_bytes("POST", CHAT, big)[:300], 413, "body_too_large")
        # Chunked: refused when the limit is passed.
        raw = request_bytes("POST", CHAT, b"", [("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")])
        connection = await self.connect(self.target)
        try:
            await connection.send(raw + chunked(big, (4096,)))
        except ConnectionError:
            pass
        self.assert_error(await connection.response(), 413, "body_too_large")

    async def test_media_types(self):
        for value in ("text/plain", "application/x-www-form-urlencoded"):
            self.assert_error(await self.post(self.target, CHAT, b"{}", [("Content-Type", value)]), 415, "unsupported_media_type")
        for value in ("application/json; charset=utf-8", "Application/JSON"):
            response = await self.post(self.target, CHAT, json.dumps(chat(stream=False)).encode(), [("Content-Type", value)])
            self.assertEqual(response.status, 200, value)
        response = await self.post(self.target, CHAT, b"\x1f\x8b", [("Content-Encoding", "gzip")])
        self.assert_error(response, 415, "unsupported_encoding")
        response = await self.post(self.target, CHAT, chat(), [("Expect", "200-maybe")])
        self.assert_error(response, 417, "expectation_failed")

    async def test_a_refusal_before_the_body_closes_or_skips_it(self):
        """What follows a refused head must never be read as a request."""
        connection = await self.connect(self.target)
        inner = request_bytes("GET", "/health")
        await connection.send(request_bytes("POST", "/nowhere", inner))
        response = await connection.response()
        self.assertEqual(response.status, 404)
        try:
            await connection.send(request_bytes("GET", "/ping"))
            after = await connection.response()
            self.assertEqual(after.status, 200)
            self.assertNotEqual(connection.reader._buffer[:4], b"HTTP", "the body was answered as a request")
        except (Cut, ConnectionError):
            pass                                # closed instead: just as safe


class Nobody(Case):
    async def test_no_engine(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        await engine.stop()
        response = await self.post(proxy, CHAT, chat())     # before or after a probe found out
        self.assertIn((response.status, response.error()["code"]), [(502, "connect_failed"), (503, "no_endpoint")])
        await proxy.until_admin("/readyz", 503)
        response = await self.post(proxy, CHAT, chat())
        self.assert_error(response, 503, "no_endpoint")
        self.assertTrue(response.header("retry-after"))

    async def test_memory(self):
        """A full body budget: who holds bytes may finish, who comes waits, then 503 with Retry-After."""
        engine = await self.fake()
        proxy = await self.proxy(engine, limits={"body_bytes": "1MiB", "body_memory": "1MiB"}, timeouts={"memory_wait": "100ms"})
        body = json.dumps(chat("x" * 900_000, stream=False)).encode()
        first = await self.connect(proxy)
        raw = request_bytes("POST", CHAT, body)
        await first.send(raw[:-10])

        async def is_full():
            response = await self.post(proxy, CHAT, body)
            return response.status == 503 and response.error()["code"] == "memory" and response.header("retry-after")
        await proxy.until(is_full, "503 memory")
        await first.send(raw[-10:])
        self.assertEqual((await first.response()).status, 200)
        self.assertEqual((await self.post(proxy, CHAT, body)).status, 200, "the budget was given back")


if __name__ == "__main__":
    unittest.main()
