"""Prefill on one engine, decode on another: two of each, emulated, with true leases and text that is wrong when a hand-off
was used too late or twice."""
import asyncio
import json
import os
import signal
import unittest

from harness.case import Case
from harness.process import run
from harness.wire import Cut, chat, data_of, text_of

LONG = "The quick brown fox jumps over the lazy dog. " * 40


def prompt(i):
    return f"request {i}: {LONG}"


class Fleet(Case):
    connector = "nixl"
    lease = 30  # seconds; NIXL's own, and of the others so that a test can see one end
    told = "told_to"  # why requests of this fleet are split
    prefill_faults = ("500", "503", "reset", "close", "garbage", "half-answer", "exit-half")

    async def engines(self):
        async def one(role):
            return await self.emulated("--connector", self.connector, "--role", role, "--kv-handshake", "20",
                                       "--kv-lease", str(self.lease * 1000))
        self.prefills = [await one("prefill"), await one("prefill")]
        self.decodes = [await one("decode"), await one("decode")]

    async def break_with(self, engine, fault):
        answer = await self.post(engine.address, "/debug/faults", fault.encode() + b"\n")
        self.assertEqual(answer.status, 200, answer.body)

    async def split_proxy(self, split="always", retry_budget=1.0, **sections):
        endpoints = [{"url": e.url, "role": "prefill"} for e in self.prefills]
        endpoints += [{"url": e.url, "role": "decode"} for e in self.decodes]
        pool = [{"name": "main", "models": ["*"], "disaggregation": {"connector": self.connector, "split": split, "lease": f"{self.lease}s"},
                 "endpoint": endpoints}]
        return await self.proxy(pool=pool, limits={"retry_budget": retry_budget}, **sections)

    async def leases(self, engine):
        response = await self.get(engine.address, "/debug/leases")
        self.assertEqual(response.status, 200)
        return response.json()

    async def expected(self, content, **more):
        """What an engine that does all itself answers."""
        if not hasattr(self, "reference"):
            self.reference = await self.emulated()
        _, events = await self.stream(self.reference.address, body(content, **more))
        return text_of(events)

    async def until_all_closed(self, proxy, engines=None, seconds=10):
        async def closed():
            states = [await self.leases(e) for e in engines or self.prefills]
            metrics = await proxy.metrics()
            return all(not s["open"] for s in states) and metrics["penstock_handoffs_open"] == 0
        await proxy.until(closed, "every lease is closed", seconds)

    async def leave(self, proxy, content, after):
        connection = await self.connect(proxy)
        task = asyncio.ensure_future(connection.start("/v1/chat/completions", body(content)))
        await after()
        task.cancel()
        connection.reset()
        await asyncio.gather(task, return_exceptions=True)

    async def assert_served(self, proxy, content, **more):
        response, events = await self.stream(proxy, body(content, **more))
        self.assertEqual(response.status, 200, events)
        self.assert_whole(events, await self.expected(content, **more))
        return events


def body(content, **more):
    return chat(content, **{"model": "emulated", "max_tokens": 8, **more})


class Whole(Fleet):
    async def test_a_stream_is_prefilled_here_and_decoded_there(self):
        await self.engines()
        proxy = await self.split_proxy()
        events = await self.assert_served(proxy, prompt(1), stream_options={"include_usage": True})
        usage = [data_of(e)["usage"] for e in events if b'"choices":[]' in e]
        self.assertEqual(len(usage), 1)
        self.assertEqual(usage[0]["prompt_tokens_details"]["cached_tokens"], 0)
        line = (await proxy.access_log(1))[0]
        self.assertEqual((line["status"], line["reason"], line["split"], line["handoff"]), (200, "ok", self.told, "fetched"))
        self.assertIn(line["prefill_endpoint"], [e.url for e in self.prefills])
        self.assertIn(line["endpoint"], [e.url for e in self.decodes])
        self.assertGreater(line["prefill_ms"], 0)
        self.assertGreater(line["handoff_ms"], 0)
        # The same prompt again: the prefill engine has it in its cache, and says so.
        events = await self.assert_served(proxy, prompt(1), stream_options={"include_usage": True})
        usage = [data_of(e)["usage"] for e in events if b'"choices":[]' in e]
        self.assertGreater(usage[0]["prompt_tokens_details"]["cached_tokens"], 0)
        metrics = await proxy.metrics()
        self.assertEqual(metrics['penstock_split_decisions_total{pool="main",split="yes",reason="' + self.told + '"}'], 2)
        self.assertEqual(metrics['penstock_handoffs_closed_total{how="fetched"}'], 2)
        for name in ("handoff_leg", "handoff_estimate", "handoff_estimate_error"):
            self.assertEqual(metrics["penstock_" + name + "_seconds_count{pool=\"main\"}"], 2)
        self.assertEqual(metrics["penstock_handoffs_open"], 0)
        states = [await self.leases(e) for e in self.prefills]
        self.assertEqual(sum(s["granted"] for s in states), 2)
        self.assertEqual(sum(s["fetched"] for s in states), 2)

    async def test_an_answer_that_is_not_streamed(self):
        await self.engines()
        proxy = await self.split_proxy()
        response = await self.post(proxy, "/v1/chat/completions", body(prompt(2), stream=False))
        self.assertEqual(response.status, 200)
        self.assertEqual(response.json()["choices"][0]["message"]["content"], await self.expected(prompt(2)))
        await self.until_all_closed(proxy)

    async def test_cached_tokens_are_the_prefill_engines_in_every_shape(self):
        await self.engines()
        proxy = await self.split_proxy()
        words = {"model": "emulated", "max_tokens": 4, "messages": [{"role": "user", "content": prompt(9)}]}

        def openai(usage):
            return usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]

        def anthropic(usage):
            return usage["cache_read_input_tokens"], usage["cache_read_input_tokens"] + usage["input_tokens"]
        for target, read in (("/v1/chat/completions", openai), ("/v1/messages", anthropic)):
            first, again = [await self.post(proxy, target, words) for _ in range(2)]
            self.assertEqual((first.status, again.status), (200, 200), again.body)
            self.assertGreater(read(again.json()["usage"])[0], 100)
            self.assertEqual(read(again.json()["usage"])[1], read(first.json()["usage"])[1])
            self.assertEqual(again.header("transfer-encoding"), "chunked")
            self.assertIsNone(again.header("content-length"))
        _, events = await self.stream(proxy, {**words, "stream": True}, "/v1/messages")
        usage = [data_of(e)["usage"] for e in events if b"message_delta" in e][0]
        self.assertEqual(anthropic(usage), anthropic(again.json()["usage"]))
        for line in await proxy.access_log(5):
            self.assertEqual(line["handoff"], "fetched")

    async def test_completions_and_responses(self):
        await self.engines()
        proxy = await self.split_proxy()
        for target, more in (("/v1/completions", {"prompt": LONG, "max_tokens": 4}),
                             ("/v1/responses", {"input": LONG, "max_output_tokens": 4})):
            sent = {"model": "emulated", **more}
            response = await self.post(proxy, target, sent)
            self.assertEqual(response.status, 200, response.body)
            plain = await self.emulated()
            wanted = (await self.post(plain.address, target, sent)).json()
            got = response.json()
            if target == "/v1/completions":
                self.assertEqual(got["choices"][0]["text"], wanted["choices"][0]["text"])
            else:
                self.assertEqual(got["output"][0]["content"], wanted["output"][0]["content"])
        lines = await proxy.access_log(2)
        self.assertEqual({line["split"] for line in lines}, {"told_to"})

    async def test_what_an_operator_sees(self):
        await self.engines()
        proxy = await self.split_proxy()
        for i in range(3):
            await self.assert_served(proxy, prompt(i))
        pool = (await self.get(proxy.admin, "/debug/fleet")).json()["pools"][0]
        self.assertEqual([e["role"] for e in pool["endpoints"]], ["prefill", "prefill", "decode", "decode"])
        how = pool["disaggregation"]
        self.assertEqual((how["connector"], how["split"], how["lease_seconds"]), (self.connector, "always", self.lease))
        self.assertEqual((how["leases_open"], how["leases"]), (0, []))
        met = {(line["prefill_endpoint"], line["endpoint"]) for line in await proxy.access_log(3)}
        self.assertEqual({(p["prefill"], p["decode"]) for p in how["pairs"] if p["connected"]}, met)
        told = await self.post(proxy.admin, "/debug/explain", body(prompt(1)))
        self.assertEqual(told.status, 200)
        text = told.body.decode()
        self.assertIn('split: yes (told_to), the configuration says "always"; on two engines it costs', text)
        self.assertRegex(text, r"prefill at http://\S+, decode at http://\S+\n1\. http://\S+ prefills for http://")
        several = await self.post(proxy.admin, "/debug/explain", body(prompt(1), n=2))
        self.assertIn(f"split: no (not_carried), a hand-off by {self.connector} cannot carry", several.body.decode())
        request = os.path.join(proxy.folder.name, "request.json")
        with open(request, "w", encoding="utf-8") as f:
            json.dump(body(prompt(1)), f)
        code, out, err = await run("explain", "-c", proxy.file, request)
        self.assertEqual((code, err), (0, ""))
        self.assertIn("split: yes (told_to)", out)

    async def test_an_open_lease_is_seen(self):
        await self.engines()
        proxy = await self.split_proxy()
        for engine in self.decodes:
            await self.break_with(engine, "decode:delay-head=20000")
        waiting = asyncio.ensure_future(self.stream(proxy, body(prompt(1))))

        async def leases():
            return (await self.get(proxy.admin, "/debug/fleet")).json()["pools"][0]["disaggregation"]["leases"]
        await proxy.until(leases, "a lease is open")
        lease = (await leases())[0]
        self.assertIn(lease["prefill"], [e.url for e in self.prefills])
        self.assertIn(lease["decode"], [e.url for e in self.decodes])
        self.assertLessEqual(lease["left_seconds"], self.lease)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

        async def none():
            return not await leases()
        await proxy.until(none, "no lease is open")

    async def test_both_legs_carry_the_clients_id(self):
        await self.engines()
        proxy = await self.split_proxy()
        await self.stream(proxy, body(prompt(3)), headers=[("x-request-id", "mine")])
        seen = []
        for engine in self.prefills + self.decodes:
            requests = (await self.get(engine.address, "/debug/requests")).json()
            seen += [h for r in requests["requests"] for h in str(r).split('"') if "mine" in h]
        self.assertGreaterEqual(len(seen), 2)

    async def test_what_a_hand_off_cannot_carry_is_served_in_one_place(self):
        await self.engines()
        proxy = await self.split_proxy()
        response = await self.post(proxy, "/v1/chat/completions", body(prompt(4), stream=False, n=2))
        self.assertEqual(response.status, 200)
        self.assertEqual(len(response.json()["choices"]), 2)
        self.assertEqual((await proxy.access_log(1))[0]["split"], "not_carried")
        for engine in self.prefills:
            self.assertEqual((await self.leases(engine))["granted"], 0)

    async def test_a_threshold_keeps_short_prompts_in_one_place(self):
        await self.engines()
        proxy = await self.split_proxy(split=200)
        await self.assert_served(proxy, "hello")
        await self.assert_served(proxy, prompt(5))
        self.assertEqual([r["split"] for r in await proxy.access_log(2)], ["short_prompt", "long_prompt"])

    async def test_the_prefill_engines_refusal_is_the_answer(self):
        await self.engines()
        proxy = await self.split_proxy()
        response = await self.post(proxy, "/v1/chat/completions", body(prompt(6), model="nobody"))
        direct = await self.post(self.prefills[0].address, "/v1/chat/completions",
                                 {"model": "nobody", "messages": [], "kv_transfer_params": {"do_remote_decode": True}})
        self.assertEqual((response.status, response.json()["error"]["code"]), (404, 404))
        self.assertEqual(response.json()["error"]["message"], direct.json()["error"]["message"])


class Faults(Fleet):
    async def served_in_spite_of(self, role, fault, tried_again=True):
        """The engine that served the first request breaks; those that follow are answered all the same."""
        await self.engines()
        proxy = await self.split_proxy()
        await self.assert_served(proxy, prompt(0))
        first = (await proxy.access_log(1))[0]
        url = first["prefill_endpoint" if role == "prefill" else "endpoint"]
        await self.break_with(next(e for e in self.prefills + self.decodes if e.url == url), f"{role}:{fault}")
        for _ in range(3):
            await self.assert_served(proxy, prompt(0))
        lines = (await proxy.access_log(4))[1:]
        self.assertEqual({line["reason"] for line in lines}, {"ok"})
        # The broken engine was asked, or the test would show nothing.
        if tried_again:
            self.assertGreater(max(line["attempts"] for line in lines), 1, lines)
        return proxy, lines

    async def test_a_prefill_engine_that_fails(self):
        for fault in self.prefill_faults:
            with self.subTest(fault):
                await self.served_in_spite_of("prefill", fault)

    async def test_a_prefill_engine_that_hands_nothing_on(self):
        proxy, lines = await self.served_in_spite_of("prefill", "no-hand-off", tried_again=False)
        self.assertEqual(lines[0]["handoff"], "expired")  # nothing of it came to the decode engine
        self.assertEqual((await proxy.metrics())["penstock_handoffs_open"], 0)

    async def test_a_decode_engine_that_fails_before_its_first_token(self):
        for fault in ("500", "503", "reset", "close", "garbage", "load-failure"):
            with self.subTest(fault):
                await self.served_in_spite_of("decode", fault)

    async def test_a_decode_engine_that_dies_inside_the_answer(self):
        await self.engines()
        proxy = await self.split_proxy()
        for engine in self.decodes:
            await self.break_with(engine, "decode:die-after=3")
        for i in range(4):
            response, events = await self.stream(proxy, body(prompt(i)))
            self.assertEqual(response.status, 200)
            self.assertEqual(sum(b'"error"' in e for e in events), 1)
            self.assertNotIn(b"data: [DONE]\n\n", events)
            self.assertTrue((await self.expected(prompt(i))).startswith(text_of(events[:-1])))
        await self.until_all_closed(proxy)


class Leaving(Fleet):
    async def test_a_client_that_leaves_at_any_moment_strands_nothing(self):
        await self.engines()
        proxy = await self.split_proxy()
        await self.assert_served(proxy, prompt(0))
        for step in range(40):
            async def pause(step=step):
                await asyncio.sleep(0.004 * step)
            await self.leave(proxy, prompt(100 + step), pause)
        await self.until_all_closed(proxy)
        states = [await self.leases(e) for e in self.prefills]
        self.assertEqual(sum(s["expired"] for s in states), 0, states)
        metrics = await proxy.metrics()
        self.assertEqual(metrics.get('penstock_handoffs_closed_total{how="expired"}', 0), 0)
        self.assertEqual(sum(s["wrong_reads"] + s["late"] for s in states), 0, states)
        await self.assert_served(proxy, prompt(1))

    async def test_between_the_legs_the_hand_off_is_delivered(self):
        await self.engines()
        proxy = await self.split_proxy()
        # The rest of the prefill answer is long in coming: its client leaves meanwhile.
        for engine in self.prefills:
            await self.break_with(engine, "prefill:dribble=64/10")

        async def answer_began():
            async def granted():
                return sum([(await self.leases(e))["granted"] for e in self.prefills]) > 0
            await proxy.until(granted, "a lease was granted")
            await asyncio.sleep(0.05)
        await self.leave(proxy, prompt(7), answer_began)
        await self.until_all_closed(proxy)
        metrics = await proxy.metrics()
        self.assertEqual(metrics['penstock_handoffs_closed_total{how="delivered"}'], 1)
        line = (await proxy.access_log(1))[0]
        self.assertEqual((line["reason"], line["handoff"]), ("client_gone", "delivered"))
        states = [await self.leases(e) for e in self.prefills]
        self.assertEqual(sum(s["expired"] for s in states), 0)


class Refused(Fleet):
    async def test_what_only_the_decode_engine_refuses_strands_nothing(self):
        """More tokens than the model has: the prefill leg asks for one and is taken. The refusal passes, and the same
        connection serves on."""
        await self.engines()
        proxy = await self.split_proxy()
        connection = await self.connect(proxy)
        for i, stream in enumerate((True, False)):
            asked = body(prompt(i), max_tokens=10**6, stream=stream)
            response = await connection.post("/v1/chat/completions", asked)
            self.assertEqual(response.status, 400)
            self.assertIn("max_tokens", response.error()["message"])
            again = await connection.post("/v1/chat/completions", body(prompt(i), stream=False))
            self.assertEqual(again.status, 200)
        await self.until_all_closed(proxy)
        lines = await proxy.access_log(4)
        self.assertEqual([(r["reason"], r["handoff"]) for r in lines],
                         [("engine_refused", "delivered"), ("ok", "fetched")] * 2)
        states = [await self.leases(e) for e in self.prefills]
        self.assertEqual(sum(s["expired"] + s["wrong_reads"] + s["late"] for s in states), 0, states)


class Crossing(Fleet):
    async def test_a_prefill_answer_that_crosses_its_leaving_client_is_delivered(self):
        """The prefill engine answers in the moment in which its client leaves, and holds blocks for nobody: a decode
        request tells them all the same where they are, and that they are not wanted."""
        params = {"do_remote_prefill": True, "do_remote_decode": False, "remote_engine_id": "e", "remote_block_ids": [[1, 2]],
                  "remote_request_id": "r", "remote_host": "127.0.0.1", "remote_port": 1}
        asked, decoded = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def prefills(call):
            asked.set()
            await call.left.wait()
            await call.answer(body={"id": "c", "choices": [{"finish_reason": "length"}], "kv_transfer_params": params})
            call.close()

        async def decodes(call):
            decoded.set_result(call.json())
            await call.left.wait()
        self.prefills, self.decodes = [await self.fake(prefills)], [await self.fake(decodes)]
        proxy = await self.split_proxy()
        await self.leave(proxy, prompt(1), asked.wait)
        sent = await decoded
        self.assertEqual((sent["kv_transfer_params"], sent["stream"]), (params, True))
        line = (await proxy.access_log(1))[0]
        self.assertEqual((line["reason"], line["handoff"]), ("client_gone", "delivered"))
        self.assertEqual((await proxy.metrics())["penstock_handoffs_open"], 0)


class Load(Fleet):
    async def test_engines_killed_under_load(self):
        await self.engines()
        proxy = await self.split_proxy()
        wanted = {i: await self.expected(prompt(i)) for i in range(8)}
        outcomes = []

        async def client(c):
            for r in range(12):
                i = (c + r) % 8
                try:
                    response, events = await self.stream(proxy, body(prompt(i)))
                except Cut:
                    outcomes.append("cut")
                    continue
                if response.status != 200:
                    outcomes.append("refused")
                elif events[-1] == b"data: [DONE]\n\n" and not any(b'"error"' in e for e in events):
                    self.assertEqual(text_of(events), wanted[i])
                    outcomes.append("ok")
                else:
                    self.assertTrue(wanted[i].startswith(text_of([e for e in events if b'"error"' not in e])))
                    outcomes.append("broken")

        async def killer():
            async def some():
                return len(outcomes) >= 20
            await proxy.until(some, "some answers", 30)
            self.prefills[0].signal(signal.SIGKILL)

            async def more():
                return len(outcomes) >= 50
            await proxy.until(more, "more answers", 30)
            self.decodes[0].signal(signal.SIGKILL)
        await asyncio.gather(killer(), *(client(c) for c in range(12)))
        self.assertEqual(len(outcomes), 144)
        # Only what a killed decode engine had begun to answer may break.
        self.assertEqual([o for o in outcomes if o in ("cut", "refused")], [])
        self.assertLessEqual(outcomes.count("broken"), 12)
        # What the killed decode engine had not read yet, nobody can: those blocks are held until their lease ends.
        await self.until_all_closed(proxy, [self.prefills[1]], seconds=40)
        state = await self.leases(self.prefills[1])
        self.assertEqual(state["wrong_reads"] + state["late"], 0, state)


if __name__ == "__main__":
    unittest.main()
