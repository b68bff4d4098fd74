"""Engines that die, stall, lie and refuse: what the client sees, and who is asked next."""
import asyncio
import unittest

from harness.case import Case
from harness.engine import well_behaved
from harness.process import SLOW, free_port
from harness.wire import Cut, chat, data_of, text_of

CHAT = "/v1/chat/completions"


def error_events(events):
    return [data_of(e) for e in events if b'"error"' in e]


def is_error(event):
    data = data_of(event)
    return isinstance(data, dict) and (bool(data.get("error")) or data.get("type") in ("error", "response.failed"))


def is_end(event):
    """The end marker of any API."""
    data = data_of(event)
    return data == "[DONE]" or isinstance(data, dict) and data.get("type") in (
        "response.completed", "response.incomplete", "response.failed", "message_stop")


class BeforeTheFirstToken(Case):
    """Nothing was sent to the client: another engine may be tried, or a typed error is the answer."""

    async def test_connect_refused(self):
        good = await self.fake()
        proxy = await self.proxy(f"http://127.0.0.1:{free_port()}", good, limits={"retry_budget": 1.0})
        for i in range(6):
            _, events = await self.stream(proxy, chat(f"{i}" + "x" * 3000))
            self.assert_whole(events, "one two three")

    async def dying(self, die):
        """Two engines, of which the first one asked dies by `die` once: the request succeeds on the other."""
        asked = []

        async def script(call):
            asked.append(call)
            if len(asked) == 1:
                await die(call)
            else:
                await well_behaved(call)
        engines = [await self.fake(script) for _ in range(2)]
        proxy = await self.proxy(*engines, limits={"retry_budget": 1.0})
        _, events = await self.stream(proxy, chat())
        self.assert_whole(events, "one two three")
        self.assertEqual(len(asked), 2)
        self.assertEqual(asked[0].json()["messages"], asked[1].json()["messages"])
        record = (await proxy.access_log(1))[0]
        self.assertEqual(record["attempts"], 2)

    async def test_reset_before_the_head(self):
        async def die(call):
            call.reset()
        await self.dying(die)

    async def test_death_after_the_head(self):
        async def die(call):
            await call.head()
            await call.role()
            call.reset()
        await self.dying(die)

    async def test_garbage_instead_of_a_head(self):
        async def die(call):
            await call.raw(b"\x15\x03\x01 no http\r\n\r\n")
            call.close()
        await self.dying(die)

    async def test_busy_engines(self):
        for status in (429, 503):
            async def die(call, status=status):
                await call.answer(status, {"error": {"message": "busy"}}, [("retry-after", "7")])
            await self.dying(die)

    async def test_all_busy_gives_the_last_answer(self):
        async def busy(call):
            await call.answer(429, b'{"error":{"message":"full","type":"x"} }', [("Retry-After", "7")])
        engines = [await self.fake(busy) for _ in range(2)]
        proxy = await self.proxy(*engines, limits={"retry_budget": 1.0})
        response = await self.post(proxy, CHAT, chat())
        self.assertEqual((response.status, response.header("retry-after")), (429, "7"))
        self.assertEqual(response.body, b'{"error":{"message":"full","type":"x"} }')
        self.assertEqual(sum(len(e.calls) for e in engines), 2)

    async def test_an_engines_own_error_passes(self):
        body = b'{"object":"error", "message":"bad","type":"Bad Request","code":400}'
        for status in (400, 404, 422, 500):
            async def script(call, status=status):
                await call.answer(status, body)
            engines = [await self.fake(script) for _ in range(2)]
            proxy = await self.proxy(*engines)
            response = await self.post(proxy, CHAT, chat())
            self.assertEqual((response.status, response.body), (status, body))
            self.assertEqual(sum(len(e.calls) for e in engines), 1, f"{status} is not tried again")

    async def test_two_deaths_are_enough(self):
        async def die(call):
            call.reset()
        engines = [await self.fake(die) for _ in range(4)]
        proxy = await self.proxy(*engines, limits={"retry_budget": 1.0})
        response = await self.post(proxy, CHAT, chat())
        self.assertEqual(response.status, 502, response.body)
        self.assertEqual(response.error()["code"], "engine_reset")
        self.assertEqual(sum(len(e.calls) for e in engines), 2, "a request that killed two engines meets no third")

    async def test_the_budget_bounds_retries(self):
        async def die(call):
            call.reset()
        engines = [await self.fake(die) for _ in range(2)]
        proxy = await self.proxy(*engines, limits={"retry_budget": 0.1})
        for i in range(100):
            await self.post(proxy, CHAT, chat(str(i)))
        tried = sum(len(e.calls) for e in engines) - 100
        self.assertLessEqual(tried, 10 + 2 * 2, "a tenth of the requests, and two from the start for each of two workers")
        self.assertGreaterEqual(tried, 1)

    async def test_a_budget_of_nothing_turns_retries_off(self):
        async def die(call):
            call.reset()
        engines = [await self.fake(die) for _ in range(2)]
        proxy = await self.proxy(*engines, limits={"retry_budget": 0.0})
        await self.post(proxy, CHAT, chat())
        self.assertEqual(sum(len(e.calls) for e in engines), 1)

    async def test_first_token_deadline(self):
        async def silent(call):
            await call.head()
            await call.role()
            await call.left.wait()
        engine = await self.fake(silent)
        proxy = await self.proxy(engine, timeouts={"first_token": "300ms"})
        response = await self.post(proxy, CHAT, chat())
        self.assert_error(response, 504, "first_token_timeout")
        await asyncio.wait_for(engine.calls[0].left.wait(), 10)

    async def test_a_stale_connection_is_tried_again(self):
        """An engine closes a kept connection just when it is used: nobody notices."""
        engine = await self.fake()
        proxy = await self.proxy(engine)

        async def once(call):
            await well_behaved(call)
            call.close()
        engine.script = once
        for i in range(10):
            _, events = await self.stream(proxy, chat(str(i)))
            self.assert_whole(events, "one two three")

    async def test_keepalive_comments_while_waiting(self):
        go = asyncio.Event()

        async def slow(call):
            await call.head()
            await go.wait()
            await call.content("late")
            await call.finish()
        engine = await self.fake(slow)
        proxy = await self.proxy(engine, timeouts={"sse_keepalive": "100ms"})
        connection = await self.connect(proxy)
        response = await connection.start(CHAT, chat())
        self.assertEqual(response.status, 200)
        events = connection.events(response)
        first = await anext(events)
        self.assertTrue(first.startswith(b":"), first)
        go.set()
        rest = [e async for e in events]
        self.assert_whole(rest, "late")

    async def test_after_comments_another_engine_may_still_answer(self):
        asked, die = [], asyncio.Event()

        async def script(call):
            asked.append(call)
            if len(asked) == 1:
                await call.head()
                await die.wait()
                call.reset()
            else:
                await well_behaved(call)
        engines = [await self.fake(script) for _ in range(2)]
        proxy = await self.proxy(*engines, timeouts={"sse_keepalive": "100ms"}, limits={"retry_budget": 1.0})
        connection = await self.connect(proxy)
        response = await connection.start(CHAT, chat())
        events = connection.events(response)
        self.assertTrue((await anext(events)).startswith(b":"))
        die.set()
        rest = [e async for e in events if not e.startswith(b":")]
        self.assert_whole(rest, "one two three")


class AfterTheFirstToken(Case):
    """Exactly one error event in the API's shape, never an end marker, a clean end in HTTP."""

    async def broken(self, script, code, **settings):
        engine = await self.fake(script)
        proxy = await self.proxy(engine, **settings)
        _, events = await self.stream(proxy, chat())
        self.assertNotIn(b"data: [DONE]\n\n", events)
        errors = error_events(events)
        self.assertEqual(len(errors), 1, events)
        self.assertEqual(errors[0]["error"]["code"], code)
        self.assertIn(b'"error"', events[-1])
        record = (await proxy.access_log(1))[0]
        self.assertEqual(record["reason"], code)
        return events

    async def test_reset(self):
        read = asyncio.Event()

        async def script(call):
            await call.head()
            await call.content("some")
            await read.wait()           # an RST may overtake bytes in the kernel
            call.reset()
        engine = await self.fake(script)
        proxy = await self.proxy(engine)
        connection = await self.connect(proxy)
        response = await connection.start(CHAT, chat())
        stream = connection.events(response)
        self.assertEqual(text_of([await anext(stream)]), "some")
        read.set()
        events = [e async for e in stream]
        self.assertEqual([e["error"]["code"] for e in error_events(events)], ["engine_cut"])
        self.assertNotIn(b"data: [DONE]\n\n", events)

    async def test_fin_in_the_middle_of_an_event(self):
        async def script(call):
            await call.head()
            await call.content("some")
            await call.chunk(b'data: {"choices":[{"del')
            call.close()
        events = await self.broken(script, "engine_cut")
        self.assertEqual(text_of(e for e in events if b'"error"' not in e), "some")
        self.assertFalse([e for e in events if b'"del' in e and b"delta" not in e], "part of an event was passed on")

    async def test_a_clean_end_without_the_marker(self):
        async def script(call):
            await call.head()
            await call.content("some")
            await call.end()
        await self.broken(script, "engine_no_end_marker")

    async def test_bad_chunk_framing(self):
        async def script(call):
            await call.head()
            await call.content("some")
            await call.raw(b"zz\r\nhello\r\n")
            await call.left.wait()
        await self.broken(script, "engine_garbage")

    async def test_silence(self):
        async def script(call):
            await call.head()
            await call.content("some")
            await call.left.wait()
        await self.broken(script, "event_timeout", timeouts={"between_events": "300ms"})

    async def test_total_deadline(self):
        async def script(call):
            await call.head()
            while not call.left.is_set():
                await call.content("x")
                await asyncio.sleep(0.02)
        await self.broken(script, "total_timeout", timeouts={"total": "500ms"})

    async def test_the_engines_own_error_event(self):
        """vLLM's way to die: an error event, then [DONE] and a clean end. All bytes pass; it counts as failed."""
        async def script(call):
            await call.head()
            await call.content("some")
            await call.event({"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}})
            await call.event("[DONE]")
            await call.end()
        engine = await self.fake(script)
        proxy = await self.proxy(engine)
        _, events = await self.stream(proxy, chat())
        self.assertEqual(len(error_events(events)), 1)
        self.assertEqual(events[-1], b"data: [DONE]\n\n")
        record = (await proxy.access_log(1))[0]
        self.assertEqual(record["reason"], "engine_error_event")

    async def test_a_cut_answer_with_a_length_is_aborted(self):
        async def script(call):
            await call.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"id\":\"")
            call.close()
        engine = await self.fake(script)
        proxy = await self.proxy(engine)
        connection = await self.connect(proxy)
        response = await connection.start(CHAT, chat(stream=False))
        self.assertEqual((response.status, response.header("content-length")), (200, "100"))
        with self.assertRaises(Cut):
            async for _ in connection.pieces(response):
                pass
        record = (await proxy.access_log(1))[0]
        self.assertEqual((record["reason"], record["status"]), ("engine_cut", 200))

    async def test_responses_dialect(self):
        async def script(call):
            await call.head()
            await call.event({"type": "response.created", "sequence_number": 0,
                              "response": {"id": "resp_7", "object": "response", "status": "in_progress"}}, "response.created")
            await call.event({"type": "response.output_text.delta", "sequence_number": 1, "item_id": "m", "output_index": 0,
                              "content_index": 0, "delta": "some"}, "response.output_text.delta")
            call.close()
        engine = await self.fake(script)
        proxy = await self.proxy(engine)
        _, events = await self.stream(proxy, {"model": "tiny", "input": "x", "stream": True}, "/v1/responses")
        last = data_of(events[-1])
        self.assertEqual(last["type"], "response.failed")
        self.assertTrue(events[-1].startswith(b"event: response.failed\n"))
        self.assertEqual(last["response"]["id"], "resp_7")
        self.assertEqual(last["response"]["status"], "failed")
        self.assertEqual(last["sequence_number"], 2)
        self.assertTrue(last["response"]["error"]["message"])

    async def test_anthropic_dialect(self):
        async def script(call):
            await call.head()
            await call.event({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "content": [],
                                                                   "usage": {"input_tokens": 3, "output_tokens": 0}}}, "message_start")
            await call.event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "some"}},
                             "content_block_delta")
            call.close()
        engine = await self.fake(script)
        proxy = await self.proxy(engine)
        body = {"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "stream": True}
        _, events = await self.stream(proxy, body, "/v1/messages")
        self.assertTrue(events[-1].startswith(b"event: error\n"))
        last = data_of(events[-1])
        self.assertEqual(last["type"], "error")
        self.assertTrue(last["error"]["message"])
        self.assertFalse([e for e in events if b"message_stop" in e])

    async def test_a_huge_event_passes(self):
        text = "y" * (3 << 20)

        async def script(call):
            await call.head()
            await call.content("a")
            await call.content(text)
            await call.finish()
        engine = await self.fake(script)
        proxy = await self.proxy(engine)
        _, events = await self.stream(proxy, chat())
        self.assert_whole(events, "a" + text)

    async def test_an_endless_event_is_bounded(self):
        async def script(call):
            await call.head()
            await call.content("a")
            for _ in range(4000):
                if call.left.is_set():
                    return
                await call.chunk(b"data: " + b"z" * 16384 if _ == 0 else b"z" * 16384)
            await call.chunk(b"\n\n")
            await call.event("[DONE]")
            await call.end()
        engine = await self.fake(script)
        # The prefix table is resident from the start, and here only what comes on top counts.
        proxy = await self.proxy(engine, routing={"table_bytes": "1MiB"})
        connection = await self.connect(proxy)
        response = await connection.start(CHAT, chat())
        total = 0
        async for piece in connection.pieces(response):
            total += len(piece)
        self.assertGreater(total, 4000 * 16384)
        with open(f"/proc/{proxy.child.pid}/status", encoding="ascii") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        if SLOW == 1:       # a sanitizer's own memory is no measure
            self.assertLess(peak, 60_000, "64 MB of one event were kept in memory")


class Health(Case):
    async def test_a_dead_engine_is_left_out_and_comes_back(self):
        engines = [await self.fake() for _ in range(2)]
        proxy = await self.proxy(*engines, health={"interval": "50ms", "fall": 2, "rise": 1, "token_grace": "0s"})
        engines[0].healthy = False

        async def all_to_the_other():
            before = len(engines[0].calls)
            for i in range(6):
                await self.stream(proxy, chat(f"{i} " + "v" * 3000))
            return len(engines[0].calls) == before
        await proxy.until(all_to_the_other, "the failing engine gets no requests")
        engines[0].healthy = True

        prompts = iter(range(10_000))  # each its own: a prompt that was seen before stays where it is held

        async def used_again():
            before = len(engines[0].calls)
            for _ in range(6):
                await self.stream(proxy, chat(f"{next(prompts)} again " + "w" * 3000))
            return len(engines[0].calls) > before
        await proxy.until(used_again, "the recovered engine gets requests")

    async def test_the_last_endpoint_stays(self):
        engine = await self.fake()
        proxy = await self.proxy(engine, health={"interval": "50ms", "fall": 1, "token_grace": "0s"})
        engine.healthy = False
        probes = len(engine.probes)

        async def probed():
            return len(engine.probes) > probes + 20
        await proxy.until(probed, "twenty failed probes")
        _, events = await self.stream(proxy, chat())
        self.assert_whole(events)


class EmulatedFaults(Case):
    """Faults of the emulated engine, asked for by the request: whatever happens, no end is invented."""

    FAULTS = ["die-after=3", "cut-after=3", "half-chunk-after=3", "garbage-after=3", "error-event-after=3", "error-only-after=3",
              "no-end-after=3", "no-end", "no-last-chunk", "reset", "close", "garbage", "informational", "status=500", "status=503",
              "status=429,retry-after=3", "slow=2", "delay-head=50ms", "delay-first=50ms", "dribble=1", "dribble=7", "chunk-bytes=5",
              "events-per-chunk=4", "big-event=100000", "die-after=0", "cut-after=0", "none"]

    async def test_each_fault_on_each_api(self):
        engine = await self.emulated("--model", "tiny", "--class", "instant")
        proxy = await self.proxy(engine, limits={"retry_budget": 1.0})
        bodies = {CHAT: chat(max_tokens=12), "/v1/completions": {"model": "tiny", "prompt": "x", "max_tokens": 12, "stream": True},
                  "/v1/responses": {"model": "tiny", "input": "x", "max_output_tokens": 12, "stream": True},
                  "/v1/messages": {"model": "tiny", "max_tokens": 12, "messages": [{"role": "user", "content": "x"}], "stream": True}}
        harmless = ("informational", "slow", "delay", "dribble", "chunk-bytes", "events-per-chunk", "big-event", "none")
        for path, body in bodies.items():
            whole = (await self.stream(proxy, body, path))[1]
            for fault in self.FAULTS:
                with self.subTest(path=path, fault=fault):
                    connection = await self.connect(proxy)
                    response = await connection.start(path, body, [("X-Emulator-Fault", fault)])
                    if response.status != 200:
                        response.body = b"".join([p async for p in connection.pieces(response)])
                        self.assertTrue(response.json()["error"]["message"])
                        self.assertFalse(fault.startswith(harmless), response.body)
                        continue
                    events = [e async for e in connection.events(response)]
                    errors = [e for e in events if is_error(e)]
                    ended = is_end(events[-1])
                    if fault.startswith(harmless):
                        self.assertEqual((len(errors), ended), (0, True))
                        if not fault.startswith("big-event"):
                            self.assertEqual(len(events), len(whole))
                    elif fault.startswith("error-event"):
                        # vLLM has no marker behind the error of a response.
                        self.assertEqual((len(errors), ended), (1, path != "/v1/responses"), "the engine's own end passes")
                    elif fault == "no-last-chunk":
                        self.assertEqual(len(errors), 0, "all was there, the marker included")
                    else:
                        self.assertEqual((len(errors), ended and not is_error(events[-1])), (1, False), events[-3:])

    async def test_killed_engine_ends_its_streams_with_one_error(self):
        engine = await self.emulated("--model", "tiny", "--speed", "0.2")
        proxy = await self.proxy(engine)
        connections, first = [], []
        for i in range(20):
            connection = await self.connect(proxy)
            response = await connection.start(CHAT, chat(f"{i}", max_tokens=400, min_tokens=400, ignore_eos=True))
            self.assertEqual(response.status, 200)
            events = connection.events(response)
            first.append(await anext(events))
            connections.append(events)
        await engine.kill()
        for events in connections:
            rest = [e async for e in events]
            self.assertEqual(len(error_events(rest)), 1)
            self.assertNotIn(b"data: [DONE]\n\n", rest)
        records = await proxy.access_log(20)
        self.assertEqual({r["reason"] for r in records}, {"engine_cut"})


if __name__ == "__main__":
    unittest.main()
