"""Both legs at once: SGLang and vLLM's Mooncake, through the same questions as NIXL and some of their own. Their engines
refuse a leg with a wrong field, and what they read late, twice or elsewhere decodes to other text."""
import signal
import unittest

import test_disaggregated as nixl
from harness.process import free_port
from harness.wire import data_of


class Both(nixl.Fleet):
    async def engines(self, prefill=(), decode=()):
        async def one(role, *more):
            return await self.emulated("--connector", self.connector, "--role", role, "--kv-handshake", "20",
                                       "--kv-lease", str(self.lease * 1000), *more)
        self.ports = [free_port(), free_port()]
        self.prefills = [await one("prefill", "--side-channel-port", str(p), *prefill) for p in self.ports]
        self.decodes = [await one("decode", *decode) for _ in range(2)]

    async def split_proxy(self, split="always", retry_budget=1.0, **sections):
        endpoints = [{"url": e.url, "role": "prefill", "bootstrap": f"127.0.0.1:{p}"}
                     for e, p in zip(self.prefills, self.ports)]
        endpoints += [{"url": e.url, "role": "decode"} for e in self.decodes]
        how = {"connector": self.connector, "split": split, "lease": f"{self.lease}s"}
        pool = [{"name": "main", "models": ["*"], "disaggregation": how, "endpoint": endpoints}]
        proxy = await self.proxy(pool=pool, limits={"retry_budget": retry_budget}, **sections)
        await self.until_found(proxy, self.prefills)
        return proxy

    async def until_found(self, proxy, engines):
        """Mooncake: who their ranks are is known."""

    async def until_all_closed(self, proxy, engines=None, seconds=10):
        await super().until_all_closed(proxy, engines, seconds)

        async def idle():
            for engine in engines or self.prefills + self.decodes:
                counts = (await self.get(engine.address, "/debug/requests")).json()
                if counts["running"] + counts["waiting"] != 0:
                    return False
            return True
        await proxy.until(idle, "no engine works for nobody", seconds)


class BothLeaving:
    """A client that leaves in each state of each leg."""

    async def leaves_while(self, role, fault, begun):
        """`begun(i)`: the i-th request has come as far as it shall."""
        await self.engines()
        proxy = await self.split_proxy()
        for engine in self.prefills if role == "prefill" else self.decodes:
            await self.break_with(engine, f"{role}:{fault}")
        for i in range(8):
            async def far_enough(i=i):
                return await begun(i)

            async def under_way():
                await proxy.until(far_enough, "both legs have come so far")
            await self.leave(proxy, nixl.prompt(i), under_way)
        await self.until_all_closed(proxy)
        lines = await proxy.access_log(8)
        self.assertEqual({line["reason"] for line in lines}, {"client_gone"})
        states = [await self.leases(e) for e in self.prefills]
        self.assertEqual(sum(s["expired"] + s["wrong_reads"] + s["late"] for s in states), 0, states)

    async def sent(self, i):
        counts = [(await self.get(e.address, "/debug/requests")).json() for e in self.prefills + self.decodes]
        return sum(c["received"] for c in counts) >= 2 * (i + 1)

    async def granted(self, i):
        return sum([(await self.leases(e))["granted"] for e in self.prefills]) >= i + 1

    async def test_while_the_prefill_engine_is_slow_to_answer(self):
        await self.leaves_while("prefill", "delay-head=5000", self.sent)

    async def test_while_the_prefill_answer_comes(self):
        await self.leaves_while("prefill", "dribble=8/100", self.granted)

    async def test_while_the_transfer_takes_long(self):
        await self.leaves_while("decode", "slow-transfer=100000", self.granted)

    async def test_while_the_decode_engine_has_not_begun(self):
        await self.leaves_while("decode", "delay-head=20000", self.sent)

    test_between_the_legs_the_hand_off_is_delivered = None  # a state of serial dispatch: here both were asked


class BothFaults:
    # Decode would wait for what never comes, as long as its engine has patience.
    test_a_prefill_engine_that_hands_nothing_on = None


class BothMore:
    """Questions of concurrent dispatch."""

    async def test_nothing_of_decode_passes_before_the_prefill_answer_ended(self):
        await self.engines()
        proxy = await self.split_proxy(timeouts={"between_events": "2s"})
        await self.assert_served(proxy, nixl.prompt(0))
        # The engine that was asked and its twin compute and hand over, but their answers never end.
        for engine in self.prefills:
            await self.break_with(engine, "prefill:dribble=1/100000")
        await self.check_answer_without_prefill(proxy)
        # With one that ends its answer the request is served.
        await self.break_with(self.prefills[0], "")
        for i in range(3):
            await self.assert_served(proxy, nixl.prompt(2 + i))
        await self.until_all_closed(proxy)

    async def test_prefill_engines_that_are_gone(self):
        await self.engines()
        proxy = await self.split_proxy()
        self.prefills[0].signal(signal.SIGKILL)
        for i in range(4):
            await self.assert_served(proxy, nixl.prompt(i))
        await self.until_all_closed(proxy, self.prefills[1:] + self.decodes)

    async def test_a_prefill_engine_that_comes_back_is_used_again(self):
        await self.engines()
        proxy = await self.split_proxy()
        self.prefills[1].signal(signal.SIGKILL)
        await self.assert_served(proxy, nixl.prompt(0))
        await self.prefills[0].kill()
        await self.prefills[0].start()
        await self.until_found(proxy, self.prefills[:1])

        async def served_by_it():
            response, events = await self.stream(proxy, nixl.body(nixl.prompt(1)))
            if response.status == 200:
                self.assert_whole(events, await self.expected(nixl.prompt(1)))
            return (await self.leases(self.prefills[0]))["fetched"] > 0
        await proxy.until(served_by_it, "the engine that came back prefills", 30)
        await self.until_all_closed(proxy, self.prefills[:1] + self.decodes)


class BothPoison:
    async def test_a_request_that_kills_its_engines_kills_two(self):
        await self.engines()
        proxy = await self.split_proxy()
        await self.assert_served(proxy, nixl.prompt(0))
        for engine in self.prefills:
            await self.break_with(engine, "prefill:exit-after=0")
        for engine in self.decodes:
            await self.break_with(engine, "decode:exit-after=0")
        response = await self.post(proxy, "/v1/chat/completions", nixl.body(nixl.prompt(1)))
        self.assertEqual(response.status, 502, response.body)
        everybody = self.prefills + self.decodes

        async def gone():
            return sum(not e.running for e in everybody) >= 2
        await proxy.until(gone, "two engines have exited")
        alive = [e for e in everybody if e.running]
        self.assertEqual(len(alive), 2)
        for engine in alive:
            self.assertEqual((await self.get(engine.address, "/debug/requests")).status, 200)


class Mooncake(Both):
    connector = "mooncake"

    async def check_answer_without_prefill(self, proxy):
        """Two pairs were asked, then a decode engine alone."""
        await self.assert_served(proxy, nixl.prompt(1))
        line = (await proxy.access_log(2))[1]
        self.assertEqual((line["reason"], line["attempts"]), ("ok", 3))
        self.assertGreater(line["ttft_ms"], 4000)

    async def until_found(self, proxy, engines):
        async def found():
            metrics = await proxy.metrics()
            return all(metrics[f'penstock_endpoint_bootstrap_known{{pool="main",endpoint="{e.url}"}}'] == 1 for e in engines)
        await proxy.until(found, "the bootstrap servers answered")


class MooncakeWhole(Mooncake, nixl.Whole):
    pass


class MooncakeFaults(BothFaults, Mooncake, nixl.Faults):
    pass


class MooncakeLeaving(BothLeaving, Mooncake, nixl.Leaving):
    async def test_while_the_blocks_wait_for_a_decode_engine_that_has_not_begun(self):
        await self.leaves_while("decode", "delay-head=20000", self.granted)


class MooncakeHanging(Mooncake, nixl.Fleet):
    lease = 6

    async def test_a_decode_engine_that_hangs_before_it_takes_its_leg(self):
        """Nobody tells the prefill engine that the blocks are not wanted: they are held until the lease ends, and the ledger
        says so."""
        await self.engines()
        proxy = await self.split_proxy(timeouts={"first_token": "1s"})
        await self.assert_served(proxy, nixl.prompt(0))
        for engine in self.decodes:
            await self.break_with(engine, "decode:stall-after=0")
        for i in range(3):
            response = await self.post(proxy, "/v1/chat/completions", nixl.body(nixl.prompt(1 + i)))
            self.assertEqual(response.status, 504)
        lines = (await proxy.access_log(4))[1:]
        self.assertEqual({(line["reason"], line["handoff"]) for line in lines}, {("first_token_timeout", "lapsed")})
        states = [await self.leases(e) for e in self.prefills]
        self.assertGreater(sum(len(s["open"]) for s in states), 0, states)
        await self.until_all_closed(proxy, self.prefills, seconds=15)
        states = [await self.leases(e) for e in self.prefills]
        self.assertEqual(sum(s["expired"] for s in states), 3, states)


class MooncakeLoad(Mooncake, nixl.Load):
    pass


class MooncakeMore(Mooncake, BothMore, nixl.Fleet):
    async def test_ranks_behind_one_address(self):
        await self.engines(prefill=("--data-parallel-size", "4"))
        proxy = await self.split_proxy()
        for i in range(12):
            await self.assert_served(proxy, nixl.prompt(i))
        await self.until_all_closed(proxy)
        self.assertEqual({line["handoff"] for line in await proxy.access_log(12)}, {"fetched"})

    async def test_an_engine_whose_bootstrap_server_is_silent_prefills_for_nobody(self):
        await self.engines()
        self.ports[0] = free_port()
        endpoints = [{"url": e.url, "role": "prefill", "bootstrap": f"127.0.0.1:{p}"}
                     for e, p in zip(self.prefills, self.ports)]
        endpoints += [{"url": e.url, "role": "decode"} for e in self.decodes]
        how = {"connector": "mooncake", "split": "always"}
        proxy = await self.proxy(pool=[{"name": "main", "models": ["*"], "disaggregation": how, "endpoint": endpoints}])
        await self.until_found(proxy, self.prefills[1:])
        for i in range(6):
            await self.assert_served(proxy, nixl.prompt(i))
        lines = await proxy.access_log(6)
        self.assertEqual({line["prefill_endpoint"] for line in lines}, {self.prefills[1].url})
        metrics = await proxy.metrics()
        self.assertEqual(metrics[f'penstock_endpoint_bootstrap_known{{pool="main",endpoint="{self.prefills[0].url}"}}'], 0)


class MooncakePoison(Mooncake, BothPoison, nixl.Fleet):
    pass


class Sglang(Both):
    connector = "sglang"
    told = "only_split"  # its decode engines take no whole request
    prefill_faults = ("500", "503", "reset", "close", "garbage", "cut-after=0", "die-after=0", "error-event-after=0")

    async def check_answer_without_prefill(self, proxy):
        response = await self.post(proxy, "/v1/chat/completions", nixl.body(nixl.prompt(1)))
        self.assertEqual(response.status, 504)
        self.assertNotIn(b"choices", response.body)
        line = (await proxy.access_log(2))[1]
        self.assertEqual((line["reason"], line["attempts"]), ("event_timeout", 2))


class SglangWhole(Sglang, nixl.Whole):
    async def test_completions_and_responses(self):
        await self.engines()
        proxy = await self.split_proxy()
        plain = await self.emulated()
        sent = {"model": "emulated", "prompt": nixl.LONG, "max_tokens": 4}
        response = await self.post(proxy, "/v1/completions", sent)
        wanted = (await self.post(plain.address, "/v1/completions", sent)).json()
        self.assertEqual(response.json()["choices"][0]["text"], wanted["choices"][0]["text"])
        # Its responses API drops what makes a request a leg, and nobody here serves one alone.
        refused = await self.post(proxy, "/v1/responses", {"model": "emulated", "input": nixl.LONG})
        self.assertGreaterEqual(refused.status, 400)
        self.assertEqual([len((await self.get(e.address, "/debug/requests")).json()["requests"]) for e in self.decodes].count(0), 1)

    async def test_what_a_hand_off_cannot_carry_is_served_in_one_place(self):
        await self.engines()
        both = await self.emulated()
        endpoints = [{"url": e.url, "role": "prefill", "bootstrap": f"127.0.0.1:{p}"}
                     for e, p in zip(self.prefills, self.ports)]
        endpoints += [{"url": e.url, "role": "decode"} for e in self.decodes] + [{"url": both.url}]
        how = {"connector": "sglang", "split": "always"}
        proxy = await self.proxy(pool=[{"name": "main", "models": ["*"], "disaggregation": how, "endpoint": endpoints}])
        response = await self.post(proxy, "/v1/completions",
                                   {"model": "emulated", "prompt": "x", "echo": True, "max_tokens": 4})
        self.assertEqual(response.status, 200, response.body)
        line = (await proxy.access_log(1))[0]
        self.assertEqual((line["split"], line["endpoint"]), ("not_carried", both.url))

    async def test_a_threshold_keeps_short_prompts_in_one_place(self):
        """Not with SGLang: its decode engines take no whole request, so all are split."""
        await self.engines()
        proxy = await self.split_proxy(split=200)
        await self.assert_served(proxy, "hello")
        await self.assert_served(proxy, nixl.prompt(5))
        self.assertEqual([r["split"] for r in await proxy.access_log(2)], ["only_split", "only_split"])

    async def test_choices_and_prompts_have_rooms_of_their_own(self):
        await self.engines()
        proxy = await self.split_proxy()
        plain = await self.emulated()
        for target, sent in (("/v1/chat/completions", nixl.body(nixl.prompt(4), stream=False, n=3)),
                             ("/v1/completions", {"model": "emulated", "prompt": ["a b c", nixl.LONG], "max_tokens": 5}),
                             ("/v1/completions", {"model": "emulated", "prompt": ["x", "y"], "n": 2, "max_tokens": 5})):
            response = await self.post(proxy, target, sent)
            self.assertEqual(response.status, 200, response.body)
            wanted = (await self.post(plain.address, target, sent)).json()

            def said(answer):
                return [c.get("text") or c["message"]["content"] for c in answer["choices"]]
            self.assertEqual(said(response.json()), said(wanted))
        await self.until_all_closed(proxy)
        granted = sum([(await self.leases(e))["granted"] for e in self.prefills])
        self.assertEqual(granted, 3 + 2 + 4)

    async def test_what_an_operator_sees(self):
        await self.engines()
        proxy = await self.split_proxy()
        await self.assert_served(proxy, nixl.prompt(0))
        how = (await self.get(proxy.admin, "/debug/fleet")).json()["pools"][0]["disaggregation"]
        self.assertEqual((how["connector"], how["leases_open"], how["leases"]), ("sglang", 0, []))
        told = (await self.post(proxy.admin, "/debug/explain", nixl.body(nixl.prompt(1)))).body.decode()
        self.assertIn("split: yes (only_split)", told)
        self.assertRegex(told, r"\n1\. http://\S+ prefills for http://")

    async def test_cached_tokens_are_the_prefill_engines_in_every_shape(self):
        await self.engines()
        proxy = await self.split_proxy()
        for stream in (True, False):
            told = []
            for _ in range(2):
                sent = nixl.body(nixl.prompt(9 + stream), stream=stream)
                if stream:
                    _, events = await self.stream(proxy, {**sent, "stream_options": {"include_usage": True}})
                    told.append([data_of(e)["usage"] for e in events if b'"choices":[]' in e][0])
                else:
                    told.append((await self.post(proxy, "/v1/chat/completions", sent)).json()["usage"])
            first, again = (u["prompt_tokens_details"]["cached_tokens"] for u in told)
            self.assertLess(first, 100)
            self.assertGreater(again, 100)


class SglangFaults(BothFaults, Sglang, nixl.Faults):
    pass


class SglangLeaving(BothLeaving, Sglang, nixl.Leaving):
    pass


class SglangLoad(Sglang, nixl.Load):
    pass


class SglangPoison(Sglang, BothPoison, nixl.Fleet):
    pass


class SglangMore(Sglang, BothMore, nixl.Fleet):
    async def test_a_room_belongs_to_the_rank_that_was_chosen(self):
        """The engines refuse a room of another rank."""
        await self.engines(prefill=("--data-parallel-size", "2"))
        endpoints = [{"url": e.url, "role": "prefill", "bootstrap": f"127.0.0.1:{p}", "data_parallel_rank": 1}
                     for e, p in zip(self.prefills, self.ports)]
        endpoints += [{"url": e.url, "role": "decode"} for e in self.decodes]
        how = {"connector": "sglang", "split": "always"}
        proxy = await self.proxy(pool=[{"name": "main", "models": ["*"], "disaggregation": how, "endpoint": endpoints}])
        for i in range(8):
            await self.assert_served(proxy, nixl.prompt(i))
        await self.assert_served(proxy, nixl.prompt(8), n=1)
        self.assertEqual({(line["handoff"], line["attempts"]) for line in await proxy.access_log(9)}, {("fetched", 1)})
        heads = [r["head"].lower() for e in self.prefills
                 for r in (await self.get(e.address, "/debug/requests")).json()["requests"]]
        self.assertEqual(len([h for h in heads if "x-data-parallel-rank: 1" in h]), 9)


if __name__ == "__main__":
    unittest.main()
