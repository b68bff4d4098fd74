"""Every API on a good day, and what the proxy may and may not do to the bytes."""
import json
import unittest

from harness import wire
from harness.case import Case
from harness.engine import chunk_of, usage
from harness.wire import chat, data_of, text_of


class Bytes(Case):
    """The bytes are the client's, and the engine's."""

    async def test_a_stream_arrives_event_by_event(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        response, events = await self.stream(proxy, chat())
        self.assertEqual(response.status, 200)
        self.assertTrue(response.header("content-type").startswith("text/event-stream"))
        self.assert_whole(events, "one two three")
        self.assertEqual(events[1], b"data: " + json.dumps(chunk_of({"content": "one"})).encode() + b"\n\n")

    async def test_the_body_is_spliced_and_never_rewritten(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        body = (b'{ "seed":9007199254740993,  "presence_penalty": 1.05, "zzz": [1e3, "\\u00e9"],\n'
                b'"model":"tiny", "messages":[{"content":"h\\/i","role":"user"}],"stream":true }')
        await self.stream(proxy, body)
        sent = engine.calls[0].body
        self.assertEqual(json.loads(sent)["stream_options"], {"include_usage": True})
        at = next(i for i in range(len(body)) if i >= len(sent) or sent[i] != body[i])
        self.assertTrue(sent.endswith(body[at:]), f"{sent!r} is not {body!r} with one insertion")

    async def test_observe_changes_nothing(self):
        engine = await self.fake()
        proxy = await self.proxy(engine, server={"usage": "observe"})
        body = b'{"model":"tiny","messages":[{"role":"user","content":"x"}],"stream":true}'
        await self.stream(proxy, body)
        self.assertEqual(engine.calls[0].body, body)

    async def test_usage_that_nobody_asked_for_is_dropped(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        _, events = await self.stream(proxy, chat())
        self.assertFalse([e for e in events if b'"usage"' in e and b'"choices": []' in e])
        _, events = await self.stream(proxy, chat(stream_options={"include_usage": True}))
        asked = [data_of(e) for e in events if b'"choices": []' in e]
        self.assertEqual([a["usage"]["prompt_tokens"] for a in asked], [10])

    async def test_a_non_streamed_answer_is_untouched(self):
        body = b'{"id":"x",  "usage":{"prompt_tokens":3,"completion_tokens":1},"n":1.050}'

        async def script(call):
            await call.answer(body=body, headers=[("x-engine", "yes"), ("connection", "x-hop"), ("x-hop", "no")])
        engine = await self.fake(script)
        proxy = await self.proxy(engine)
        response = await self.post(proxy, "/v1/chat/completions", chat(stream=False))
        self.assertEqual((response.status, response.body), (200, body))
        self.assertEqual(response.header("content-length"), str(len(body)))
        self.assertEqual(response.header("x-engine"), "yes")
        self.assertIsNone(response.header("x-hop"))

    async def test_headers_pass_but_hops_do_not(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        await self.stream(proxy, chat(), headers=[
            ("Authorization", "Bearer mine"), ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("tracestate", "a=b"), ("X-Mine", "kept"), ("Connection", "keep-alive, X-Hop"), ("X-Hop", "gone"),
            ("Proxy-Authorization", "gone"), ("TE", "trailers"), ("X-Request-Id", "client-1")])
        call = engine.calls[0]
        self.assertEqual(call.header("authorization"), "Bearer mine")
        self.assertEqual(call.header("traceparent"), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        self.assertEqual(call.header("tracestate"), "a=b")
        self.assertEqual(call.header("x-mine"), "kept")
        self.assertEqual(call.header("x-request-id"), "client-1")
        self.assertEqual(call.header("host"), f"127.0.0.1:{engine.port}")
        self.assertEqual(call.header("accept-encoding"), "identity")
        for gone in ("x-hop", "proxy-authorization", "te"):
            self.assertIsNone(call.header(gone), gone)

    async def test_request_ids(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        for given in (None, "x" * 129, "has blank"):
            headers = [("X-Request-Id", given)] if given else []
            response, _ = await self.stream(proxy, chat(), headers=headers)
            minted = response.header("x-request-id")
            self.assertTrue(minted)
            self.assertNotEqual(minted, given)
            self.assertEqual(engine.calls[-1].header("x-request-id"), minted)
        response, _ = await self.stream(proxy, chat(), headers=[("X-Request-Id", "y" * 128)])
        self.assertEqual(response.header("x-request-id"), "y" * 128)

    async def test_an_endpoints_key_and_headers_replace_the_clients(self):
        engine = await self.fake()
        proxy = await self.proxy(engine, env={"TEST_KEY": "s3cret"}, pool=[{
            "name": "main", "models": ["*"],
            "endpoint": [{"url": engine.url, "api_key": "${TEST_KEY}", "headers": {"X-Tenant": "ours"}}]}])
        await self.stream(proxy, chat(), headers=[("Authorization", "Bearer client"), ("X-Tenant", "theirs")])
        self.assertEqual(engine.calls[0].header("authorization"), "Bearer s3cret")
        self.assertEqual(engine.calls[0].header("x-tenant"), "ours")
        probes = {t: {n.lower(): v for n, v in h} for t, h in engine.probes}
        for target in ("/health", "/metrics"):
            self.assertEqual(probes[target].get("authorization"), "Bearer s3cret", target)
            self.assertEqual(probes[target].get("x-tenant"), "ours", target)

    async def test_an_encoded_answer_passes_unscanned(self):
        async def script(call):
            await call.answer(body=b"\x1f\x8b\x00\xff", headers=[("content-encoding", "gzip")])
        engine = await self.fake(script)
        proxy = await self.proxy(engine)
        response = await self.post(proxy, "/v1/chat/completions", chat(stream=False))
        self.assertEqual(response.header("content-encoding"), "gzip")
        self.assertEqual(response.body, b"\x1f\x8b\x00\xff")

    async def test_events_in_any_pieces_are_the_same_events(self):
        events = [b"data: " + json.dumps(chunk_of({"content": w})).encode() + b"\n\n" for w in ("a", "\u00e9\u4e16", "c")]
        whole = b"".join(events) + b"data: [DONE]\n\n"
        for size in (1, 3, 17, 4096):
            async def script(call, size=size):
                await call.head()
                for i in range(0, len(whole), size):
                    await call.chunk(whole[i:i + size])
                await call.end()
            engine = await self.fake(script)
            proxy = await self.proxy(engine, server={"usage": "observe"})
            _, got = await self.stream(proxy, chat())
            self.assertEqual(b"".join(got), whole, f"pieces of {size}")

    async def test_crlf_events_and_trailers(self):
        async def script(call):
            await call.head(headers=[("trailer", "x-sum")])
            data = json.dumps(chunk_of({"content": "hi"})).encode()
            await call.raw(b"%x;ext=1\r\ndata: %s\r\n\r\n\r\n" % (len(data) + 10, data))
            await call.raw(b"e;q=\"a\"\r\ndata: [DONE]\n\n\r\n0\r\nx-sum: 1\r\n\r\n")
        engine = await self.fake(script)
        proxy = await self.proxy(engine)
        connection = await self.connect(proxy)
        response = await connection.start("/v1/chat/completions", chat())
        body = b"".join([p async for p in connection.pieces(response)])
        self.assertTrue(body.endswith(b"data: [DONE]\n\n"), body)
        self.assertIn(b"\r\n\r\n", body)
        self.assertNotIn(b"x-sum", body)


class Apis(Case):
    """Each call against the emulated engine."""

    async def asyncSetUp(self):
        self.engine = await self.emulated("--model", "tiny")
        self.target = await self.proxy(self.engine)

    async def test_chat(self):
        _, events = await self.stream(self.target, chat("say something", max_tokens=8))
        self.assert_whole(events)
        streamed = text_of(events)
        self.assertTrue(streamed)
        response = await self.post(self.target, "/v1/chat/completions", chat("say something", stream=False, max_tokens=8))
        answer = response.json()
        self.assertEqual(answer["choices"][0]["message"]["content"], streamed)
        self.assertEqual(answer["usage"]["completion_tokens"], 8)

    async def test_completions(self):
        body = {"model": "tiny", "prompt": "once upon", "max_tokens": 6}
        response = await self.post(self.target, "/v1/completions", body)
        _, events = await self.stream(self.target, {**body, "stream": True}, "/v1/completions")
        self.assertEqual(events[-1], b"data: [DONE]\n\n")
        text = "".join(d["choices"][0]["text"] for d in map(data_of, events) if isinstance(d, dict) and d["choices"])
        self.assertEqual(text, response.json()["choices"][0]["text"])
        batch = await self.post(self.target, "/v1/completions", {**body, "prompt": ["a b c", "d e f"]})
        self.assertEqual(len(batch.json()["choices"]), 2)
        tokens = await self.post(self.target, "/v1/completions", {**body, "prompt": [1, 2, 3, 4]})
        self.assertEqual(tokens.json()["usage"]["prompt_tokens"], 4)

    async def test_responses(self):
        body = {"model": "tiny", "input": "hello there", "max_output_tokens": 6}
        response = await self.post(self.target, "/v1/responses", body)
        self.assertEqual(response.json()["object"], "response")
        _, events = await self.stream(self.target, {**body, "stream": True}, "/v1/responses")
        self.assertIn(data_of(events[-1])["type"], ("response.completed", "response.incomplete"))
        self.assertEqual(data_of(events[0])["type"], "response.created")

    async def test_messages(self):
        body = {"model": "tiny", "max_tokens": 6, "messages": [{"role": "user", "content": "hello"}]}
        response = await self.post(self.target, "/v1/messages", body)
        self.assertEqual(response.json()["type"], "message")
        _, events = await self.stream(self.target, {**body, "stream": True}, "/v1/messages")
        self.assertEqual(data_of(events[-1])["type"], "message_stop")

    async def test_pooling_and_tokens(self):
        embedded = await self.post(self.target, "/v1/embeddings", {"model": "tiny", "input": ["a", "b"]})
        self.assertEqual(len(embedded.json()["data"]), 2)
        ranked = await self.post(self.target, "/v1/rerank", {"model": "tiny", "query": "q", "documents": ["a", "b"]})
        self.assertEqual(len(ranked.json()["results"]), 2)
        scored = await self.post(self.target, "/v1/score", {"model": "tiny", "text_1": "a", "text_2": ["b", "c"]})
        self.assertEqual(len(scored.json()["data"]), 2)
        tokens = (await self.post(self.target, "/tokenize", {"model": "tiny", "prompt": "hello world"})).json()
        self.assertEqual(len(tokens["tokens"]), tokens["count"])
        back = await self.post(self.target, "/detokenize", {"model": "tiny", "tokens": tokens["tokens"]})
        self.assertIn("hello world", back.json()["prompt"])

    async def test_models(self):
        async def known():
            return "tiny" in [m["id"] for m in (await self.get(self.target, "/v1/models")).json()["data"]]
        await self.target.until(known, "the engine was asked for its models")
        listed = await self.get(self.target, "/v1/models")
        self.assertEqual(listed.json()["object"], "list")
        self.assertIn("tiny", [m["id"] for m in listed.json()["data"]])
        one = await self.get(self.target, "/v1/models/tiny")
        self.assertEqual(one.json()["id"], "tiny")
        self.assert_error(await self.get(self.target, "/v1/models/none"), 404, "model_not_found", "model")
        connection = await self.connect(self.target)
        head = await connection.request("HEAD", "/v1/models")
        self.assertEqual((head.status, head.header("content-length")), (200, str(len(listed.body))))
        again = await connection.request("GET", "/v1/models")     # no body of the HEAD is in the way
        self.assertEqual(again.status, 200)

    async def test_health_and_options(self):
        for path in ("/health", "/ping"):
            self.assertEqual((await self.get(self.target, path)).status, 200)
        connection = await self.connect(self.target)
        response = await connection.request("OPTIONS", "/v1/chat/completions")
        self.assertEqual(response.status, 204)
        self.assertIn("POST", response.header("allow"))

    async def test_cached_tokens_rise_with_a_conversation(self):
        messages, cached = [], []
        for turn in range(4):
            messages.append({"role": "user", "content": f"turn {turn} " + "tell me more about it " * 40})
            response = await self.post(self.target, "/v1/chat/completions",
                                       {"model": "tiny", "messages": messages, "max_tokens": 8})
            answer = response.json()
            cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
            messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})
        self.assertEqual(cached[0], 0)
        self.assertEqual(cached, sorted(set(cached)), "each turn finds more of its prompt cached")


class Placement(Case):
    """Which engine is asked."""

    async def proxy(self, *engines, **settings):
        """A proxy that knows every engine, and whose view of them no late probe of a busy machine changes: where a
        request goes is a matter of the requests alone."""
        calm = {"interval": "30s", "scrape_interval": "30s", "models_interval": "30s"}
        proxy = await super().proxy(*engines, health=calm, **settings)

        async def all_up():
            return all(e["state"] == "up" for p in (await proxy.fleet())["pools"] for e in p["endpoints"])
        await proxy.until(all_up, "every endpoint is up")
        return proxy

    async def test_a_conversation_stays_where_its_prefix_is(self):
        engines = [await self.fake() for _ in range(3)]
        proxy = await self.proxy(*engines)
        used = set()
        for conversation in range(12):
            body = chat(f"conversation {conversation} " + "words " * 2000)
            homes = set()
            for _ in range(4):
                before = [len(e.calls) for e in engines]
                await self.stream(proxy, body)
                homes |= {i for i, e in enumerate(engines) if len(e.calls) > before[i]}
                body["messages"] += [{"role": "assistant", "content": "one two three"}, {"role": "user", "content": "go on " * 300}]
            self.assertEqual(len(homes), 1, f"conversation {conversation} was spread over {homes}")
            used |= homes
        self.assertGreater(len(used), 1, "every conversation went to one engine")

    async def test_new_prefixes_spread(self):
        """Nobody holds them, nobody is busy: the hash places them, and it does so evenly."""
        engines = [await self.fake() for _ in range(2)]
        proxy = await self.proxy(*engines)
        for i in range(40):
            await self.stream(proxy, chat(f"{i} " + "words " * 2000))
        least = min(len(e.calls) for e in engines)
        self.assertGreaterEqual(least, 8, f"one of two engines got only {least} of 40 new prefixes")

    async def test_policies(self):
        for policy in ("prefix", "consistent_hash", "least_tokens", "least_requests", "round_robin", "random"):
            engines = [await self.fake() for _ in range(2)]
            # Each worker takes turns on its own: with two, an even split of eight would be luck.
            proxy = await self.proxy(server={"workers": 1},
                                     pool=[{"name": "main", "models": ["*"], "policy": policy,
                                            "endpoint": [{"url": e.url} for e in engines]}])
            for i in range(8):
                _, events = await self.stream(proxy, chat(f"{i} " + "z" * 3000))
                self.assert_whole(events)
            calls = [len(e.calls) for e in engines]
            self.assertEqual(sum(calls), 8, policy)
            if policy == "round_robin":
                self.assertEqual(calls, [4, 4])

    async def test_models_choose_the_pool(self):
        big, small = await self.fake(model="big"), await self.fake(model="small")
        proxy = await self.proxy(pool=[{"name": "big", "models": ["big"], "endpoint": [{"url": big.url}]},
                                       {"name": "small", "models": ["small", "little"], "endpoint": [{"url": small.url}]}])
        await self.stream(proxy, chat(model="big"))
        await self.stream(proxy, chat(model="little"))
        self.assertEqual((len(big.calls), len(small.calls)), (1, 1))
        response = await self.post(proxy, "/v1/chat/completions", {**chat(), "model": "other"})
        self.assert_error(response, 404, "model_not_found", "model")
        ids = {m["id"] for m in (await self.get(proxy, "/v1/models")).json()["data"]}
        self.assertLessEqual({"big", "small"}, ids)

    async def test_previous_response_goes_back_to_its_engine(self):
        engines = [await self.emulated("--model", "tiny") for _ in range(2)]
        proxy = await self.proxy(*engines)
        for i in range(4):
            first = (await self.post(proxy, "/v1/responses", {"model": "tiny", "input": f"{i}", "max_output_tokens": 4})).json()
            second = await self.post(proxy, "/v1/responses", {"model": "tiny", "input": "more", "max_output_tokens": 4,
                                                              "previous_response_id": first["id"]})
            self.assertEqual(second.status, 200, second.body)
        lost = await self.post(proxy, "/v1/responses", {"model": "tiny", "input": "x", "previous_response_id": "resp_unknown"})
        self.assert_error(lost, 400, "response_not_found", "previous_response_id")

    async def test_the_routing_header_is_off_unless_asked_for(self):
        engine = await self.fake()
        closed = await self.proxy(engine)
        response, _ = await self.stream(closed, chat())
        self.assertFalse([n for n, _ in response.headers if n.lower().startswith("x-penstock")])
        opened = await self.proxy(engine, server={"expose_routing": True})
        response, _ = await self.stream(opened, chat())
        self.assertIn(str(engine.port), response.header("x-penstock-endpoint"))

    async def test_multipart_and_passthrough(self):
        engine = await self.fake()
        proxy = await self.proxy(engine, server={"passthrough": ["/v1/special/thing", "/classify"]})

        async def script(call):
            await call.answer(body={"text": "ok"})
        engine.script = script
        form = (b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ntiny\r\n"
                b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n\x00\x01\xff\r\n--b--\r\n")
        response = await self.post(proxy, "/v1/audio/transcriptions", form,
                                   [("Content-Type", "multipart/form-data; boundary=b")])
        self.assertEqual(response.json(), {"text": "ok"})
        self.assertEqual(engine.calls[-1].body, form)
        for path in ("/v1/special/thing", "/classify"):
            response = await self.post(proxy, path, {"model": "tiny", "input": "x"})
            self.assertEqual(response.status, 200, path)
            self.assertEqual(engine.calls[-1].target, path)

    async def test_the_engine_may_have_a_prefix(self):
        engine = await self.fake()
        proxy = await self.proxy(engine.url + "/deep/er")
        await self.stream(proxy, chat())
        self.assertEqual(engine.calls[0].target, "/deep/er/v1/chat/completions")


if __name__ == "__main__":
    unittest.main()
