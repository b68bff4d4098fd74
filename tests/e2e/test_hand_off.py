"""Emulated prefill and decode engines, the proxy's part played by hand: only what is right gives the right text."""
import asyncio
import json
import unittest

from harness.case import Case
from harness.hand_off import body_of, nixl_decode, nixl_prefill
from harness.process import free_port
from harness.wire import Cut

CHAT = "/v1/chat/completions"
FAST = ("--class", "instant", "--model", "tiny", "--kv-handshake", "20")
# Of a decode engine that should not wait long for a prefill engine that is not there.
IMPATIENT = ("--kv-handshake-timeout", "300")


def content(response):
    assert response.status == 200, response.body
    return json.loads(response.body)["choices"][0]["message"]["content"]


class HandOff(Case):
    async def pair(self, connector, prefill=(), decode=()):
        common = ("--connector", connector, *FAST)
        return (await self.emulated(*common, "--role", "prefill", *prefill),
                await self.emulated(*common, "--role", "decode", *decode))

    async def leases(self, engine):
        return json.loads((await self.get(engine, "/debug/leases")).body)

    async def metric(self, engine, name, label=""):
        for line in (await self.get(engine, "/metrics")).body.decode().splitlines():
            if line.startswith(name + "{") and label in line:
                return float(line.split()[-1])
        raise AssertionError(f"no {name} with {label}")

    async def eventually(self, engine, seconds=10, **expected):
        """Waits until /debug/leases says so."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            found = await self.leases(engine)
            if all(found[k] == v for k, v in expected.items()):
                return found
            self.assertLess(asyncio.get_running_loop().time(), deadline, (expected, found))
            await asyncio.sleep(0.01)

    async def undisaggregated(self, body):
        return content(await self.post(await self.emulated(*FAST), CHAT, body))


class Nixl(HandOff):
    async def prefill(self, engine, body, headers=()):
        response = await self.post(engine, CHAT, nixl_prefill(body), headers)
        self.assertEqual(response.status, 200, response.body)
        return response.body

    async def decode(self, engine, body, prefilled, headers=()):
        return await self.post(engine, CHAT, nixl_decode(body, prefilled), headers)

    async def test_text_is_that_of_one_engine(self):
        p, d = await self.pair("nixl")
        body = body_of("word " * 200)
        want = await self.undisaggregated(body)
        prefilled = await self.prefill(p, body)
        self.assertEqual(len((await self.leases(p))["open"]), 1)
        answer = await self.decode(d, body, prefilled)
        self.assertEqual(content(answer), want)
        usage = json.loads(answer.body)["usage"]
        self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], 0)
        await self.eventually(p, open=[], fetched=1, pinned_blocks=0, wrong_reads=0)
        tokens = usage["prompt_tokens"]
        by_source = "vllm:prompt_tokens_by_source_total"
        self.assertEqual(await self.metric(d, by_source, "external_kv_transfer"), tokens)
        self.assertEqual(await self.metric(d, by_source, "local_compute"), 0)
        self.assertEqual(await self.metric(p, by_source, "local_compute"), tokens)
        self.assertEqual(await self.metric(d, "vllm:nixl_bytes_transferred_sum"), tokens * 131072)

    async def test_a_stream(self):
        p, d = await self.pair("nixl")
        body = body_of("word " * 100)
        want = await self.undisaggregated(body)
        streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
        prefilled = await self.prefill(p, streamed)
        _, events = await self.stream(d, nixl_decode(streamed, prefilled))
        self.assert_whole(events, want)

    async def test_the_prefill_engine_knows_what_was_cached(self):
        p, d = await self.pair("nixl")
        body = body_of("word " * 200)
        await self.decode(d, body, await self.prefill(p, body))
        again = json.loads(await self.prefill(p, body))
        cached = again["usage"]["prompt_tokens_details"]["cached_tokens"]
        self.assertGreater(cached, 0)
        self.assertEqual(again["kv_transfer_params"]["remote_prefill_cached_tokens"], cached)

    async def test_repeated_late_and_foreign_hand_offs_give_other_text(self):
        p, d = await self.pair("nixl", ("--kv-lease", "300"))
        body, other = body_of("one " * 80), body_of("two " * 80)
        want = await self.undisaggregated(body)
        prefilled = await self.prefill(p, body)
        self.assertEqual(content(await self.decode(d, body, prefilled)), want)
        await self.eventually(p, fetched=1)
        repeated = content(await self.decode(d, body, prefilled))
        self.assertNotEqual(repeated, want)
        self.assertEqual(content(await self.decode(d, body, prefilled)), repeated)
        await self.eventually(p, late=2, wrong_reads=2)

        late = await self.prefill(p, body)
        await self.eventually(p, expired=1, open=[], pinned_blocks=0)
        self.assertNotEqual(content(await self.decode(d, body, late)), want)
        self.assertEqual(await self.metric(p, "vllm:nixl_num_kv_expired_reqs_total"), 1)
        self.assertEqual(await self.metric(p, "vllm:nixl_num_notifications_after_expiry_total"), 3)

        self.assertNotEqual(content(await self.decode(d, body, await self.prefill(p, other))), want)
        params = json.loads(await self.prefill(p, body))
        params["kv_transfer_params"]["remote_block_ids"][0][-1] += 1
        self.assertNotEqual(content(await self.decode(d, body, json.dumps(params))), want)

    async def test_a_decode_leg_that_was_cut_frees_the_blocks(self):
        p, d = await self.pair("nixl", decode=("--kv-handshake", "300"))
        body = body_of("word " * 100, stream=True)
        prefilled = await self.prefill(p, body)
        cut = await self.connect(d)
        await cut.start(CHAT, nixl_decode(body, prefilled))
        cut.close()
        await self.eventually(p, aborted=1, open=[], pinned_blocks=0, expired=0)

    async def test_pinned_blocks_take_capacity(self):
        p, _ = await self.pair("nixl", ("--kv-tokens", "1024", "--kv-lease", "500"))
        first, second = body_of("a" * 2400), body_of("b" * 2400)  # some 600 tokens each
        await self.prefill(p, first)
        waits = asyncio.ensure_future(self.prefill(p, second))
        await self.eventually(p, expired=1)
        await waits
        self.assertEqual((await self.leases(p))["granted"], 2)

    async def test_a_prefill_engine_that_was_killed(self):
        p, d = await self.pair("nixl", decode=IMPATIENT)
        body = body_of("word " * 50)
        prefilled = await self.prefill(p, body)
        await p.kill()
        failed = await self.decode(d, body, prefilled)
        self.assertEqual((failed.status, json.loads(failed.body)["error"]["type"]), (500, "InternalServerError"))
        self.assertEqual(await self.metric(d, "vllm:nixl_num_failed_transfers_total"), 1)

    async def test_a_prefill_engine_that_is_killed_during_the_transfer(self):
        p, d = await self.pair("nixl", decode=("--kv-load-failure-policy", "recompute", "--kv-bandwidth", "0.001"))
        body = body_of("word " * 50)  # some 60 tokens, 8 s
        want = await self.undisaggregated(body)
        decoding = asyncio.ensure_future(self.decode(d, body, await self.prefill(p, body)))
        while not (await self.leases(p))["open"][0]["read"]:
            await asyncio.sleep(0.01)
        await p.kill()
        self.assertEqual(content(await decoding), want)
        self.assertEqual((await self.leases(d))["failed"], 1)

    async def test_an_engine_that_was_restarted_is_another_one(self):
        p, d = await self.pair("nixl", ("--side-channel-port", str(free_port())), IMPATIENT)
        body = body_of("word " * 50)
        prefilled = await self.prefill(p, body)
        await p.kill()
        await p.start()
        self.assertEqual((await self.decode(d, body, prefilled)).status, 500)

    async def test_faults_of_the_prefill_leg(self):
        p, _ = await self.pair("nixl")
        body = nixl_prefill(body_of("word " * 50))

        async def with_fault(fault):
            return await self.post(p, CHAT, body, [("x-emulator-fault", fault)])
        self.assertEqual((await with_fault("prefill:500")).status, 500)
        self.assertEqual((await with_fault("decode:500")).status, 200)
        none = await with_fault("no-hand-off")
        self.assertIsNone(json.loads(none.body)["kv_transfer_params"])
        self.assertEqual(len((await self.leases(p))["open"]), 1)  # of the one that went well
        with self.assertRaises(Cut):
            await with_fault("reset")
        with self.assertRaises(Cut):
            await with_fault("half-answer")
        await self.eventually(p, granted=2)  # the answer was cut, the blocks are held
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(with_fault("stall-after=0"), 0.3)
        with self.assertRaises(Cut):
            await with_fault("exit-half")
        self.assertEqual(await p.exit_code(), 3)
        await p.start()
        self.assertEqual((await with_fault("exit-end")).status, 200)
        self.assertEqual(await p.exit_code(), 3)

    async def test_faults_of_the_decode_leg(self):
        p, d = await self.pair("nixl", decode=("--fault", "decode:load-failure@first:1"))
        body = body_of("word " * 50)
        want = await self.undisaggregated(body)
        self.assertEqual((await self.decode(d, body, await self.prefill(p, body))).status, 500)
        answer = await self.decode(d, body, await self.prefill(p, body), [("x-emulator-fault", "slow-transfer=100")])
        self.assertEqual(content(answer), want)
        with self.assertRaises(Cut):
            await self.stream(d, nixl_decode({**body, "stream": True}, await self.prefill(p, body)),
                              headers=[("x-emulator-fault", "decode:exit-after=3")])
        self.assertEqual(await d.exit_code(), 3)

    async def test_wrong_legs_are_refused(self):
        p, d = await self.pair("nixl")
        body = body_of("word " * 50)
        leg = nixl_prefill(body)
        for change, field in [({"max_tokens": 2}, "max_tokens"), ({"min_tokens": None}, "min_tokens"),
                              ({"max_completion_tokens": 7}, "max_completion_tokens"), ({"stream": True}, "stream"),
                              ({"n": 2}, "n"), ({"kv_transfer_params": None}, "kv_transfer_params")]:
            self.assert_refused(await self.post(p, CHAT, {**leg, **change}), field)
        prefilled = await self.prefill(p, body)
        for key in json.loads(prefilled)["kv_transfer_params"]:
            wrong = nixl_decode(body, prefilled)
            if key == "do_remote_prefill":
                continue
            if key == "do_remote_decode":
                wrong["kv_transfer_params"][key] = True
            else:
                del wrong["kv_transfer_params"][key]
            self.assert_refused(await self.post(d, CHAT, wrong), f"kv_transfer_params.{key}")
        self.assert_refused(await self.post(d, CHAT, leg), "kv_transfer_params")
        self.assertEqual(len((await self.leases(p))["open"]), 1)

    def assert_refused(self, response, field):
        self.assertEqual(response.status, 400, response.body)
        error = json.loads(response.body)["error"]
        self.assertEqual(error["param"], field)
        self.assertIn(field, error["message"])


if __name__ == "__main__":
    unittest.main()
