"""Emulated prefill and decode engines, the proxy's part played by hand: only what is right gives the right text."""
import asyncio
import json
import signal
import unittest

from harness.case import Case
from harness.hand_off import (body_of, mooncake_decode, mooncake_prefill, moriio_decode, moriio_prefill, nixl_decode,
                              nixl_prefill, sglang_leg, trtllm_context, trtllm_generation)
from harness.process import free_port
from harness.wire import Cut, chat

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

    def assert_refused(self, response, field):
        self.assertEqual(response.status, 400, response.body)
        error = json.loads(response.body)["error"]
        self.assertEqual(error["param"], field)
        self.assertIn(field, error["message"])


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
        p, d = await self.pair("nixl", ("--kv-lease", "1000"))
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

    async def test_a_prefill_engine_that_does_not_answer(self):
        p, d = await self.pair("nixl", decode=(*IMPATIENT, "--kv-load-failure-policy", "recompute"))
        body = body_of("word " * 50)
        want = await self.undisaggregated(body)
        prefilled = await self.prefill(p, body)
        p.signal(signal.SIGSTOP)
        self.assertEqual(content(await self.decode(d, body, prefilled)), want)
        p.signal(signal.SIGCONT)
        # What was said to it before it was given up is nothing that it hears: the blocks wait for their expiry.
        self.assertEqual(len((await self.leases(p))["open"]), 1)

    async def test_a_decode_leg_under_way_keeps_the_lease(self):
        p, d = await self.pair("nixl", ("--kv-lease", "1000"), ("--kv-lease", "1000", "--kv-bandwidth", "0.006"))
        body = body_of("word " * 50)  # some 70 tokens, 1.5 s
        want = await self.undisaggregated(body)
        self.assertEqual(content(await self.decode(d, body, await self.prefill(p, body))), want)
        await self.eventually(p, fetched=1, expired=0, late=0)

    async def test_a_stream_whose_kv_does_not_arrive(self):
        p, d = await self.pair("nixl")
        body = body_of("word " * 50, stream=True)
        leg = nixl_decode(body, await self.prefill(p, body))
        _, events = await self.stream(d, leg, headers=[("x-emulator-fault", "load-failure")])
        self.assertEqual(len([e for e in events if b'"error"' in e]), 1)
        self.assertEqual(events[-1], b"data: [DONE]\n\n")

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


class Crowds(HandOff):
    """Many hand-offs at a time, with legs that are cut at any moment, leave nothing behind."""

    async def cut(self, engine, leg, after):
        """A decode leg whose client leaves."""
        connection = await self.connect(engine)
        try:
            await asyncio.wait_for(connection.start(CHAT, leg), after)
        except asyncio.TimeoutError:
            pass
        connection.close()

    async def nothing_left(self, *engines):
        for engine in engines:
            await self.eventually(engine, open=[], pinned_blocks=0, loading=0)
            counts = json.loads((await self.get(engine, "/debug/requests")).body)
            self.assertEqual((counts["running"], counts["waiting"]), (0, 0))

    def crowd(self, one, size=60):
        return asyncio.gather(*(one(i) for i in range(size)))

    async def test_nixl(self):
        p, d = await self.pair("nixl", ("--kv-lease", "3000"), ("--kv-bandwidth", "1"))
        alone = await self.emulated(*FAST)

        async def one(i):
            body = body_of(f"prompt {i} " * 20, stream=i % 3 == 0)
            prefilled = (await self.post(p, CHAT, nixl_prefill(body))).body
            if i % 3 == 0:
                return await self.cut(d, nixl_decode(body, prefilled), (i % 7) * 0.01 + 0.001)
            self.assertEqual(content(await self.post(d, CHAT, nixl_decode(body, prefilled))),
                             content(await self.post(alone, CHAT, body)))
        await self.crowd(one)
        await self.nothing_left(p, d)
        self.assertEqual((await self.leases(p))["wrong_reads"], 0)

    async def test_mooncake(self):
        p, d = await self.pair("mooncake", ("--kv-lease", "3000"), ("--kv-bandwidth", "1"))
        alone = await self.emulated(*FAST)
        address = (await self.leases(p))["side_channel"]
        engine_id = (await self.leases(p))["engine_id"] + "_dp0"

        async def one(i):
            body = body_of(f"prompt {i} " * 20, stream=i % 3 == 0)
            prefill, decode = mooncake_prefill(body, f"x{i}"), mooncake_decode(body, f"x{i}", address, engine_id)
            if i % 3 == 0:
                return await asyncio.gather(self.post(p, CHAT, prefill), self.cut(d, decode, (i % 7) * 0.01 + 0.001))
            _, decoded = await asyncio.gather(self.post(p, CHAT, prefill), self.post(d, CHAT, decode))
            self.assertEqual(content(decoded), content(await self.post(alone, CHAT, body)))
        await self.crowd(one)
        await self.nothing_left(p, d)

    async def test_sglang(self):
        port = free_port()
        p, d = await self.pair("sglang", ("--side-channel-port", str(port), "--kv-lease", "3000"),
                               ("--kv-bandwidth", "1", "--kv-lease", "3000"))
        alone = await self.emulated(*FAST)

        async def one(i):
            body = body_of(f"prompt {i} " * 20, stream=i % 3 == 0)
            leg = sglang_leg(body, port, i)
            if i % 3 == 0:
                return await asyncio.gather(self.cut(p, leg, (i % 7) * 0.01 + 0.001), self.cut(d, leg, 0.02))
            prefilled, decoded = await asyncio.gather(self.post(p, CHAT, leg), self.post(d, CHAT, leg))
            self.assertEqual(prefilled.status, 200)
            self.assertEqual(content(decoded), content(await self.post(alone, CHAT, body)))
        await self.crowd(one)
        await self.nothing_left(p, d)


class MoriIo(HandOff):
    async def test_text_is_that_of_one_engine_once(self):
        p, d = await self.pair("moriio")
        body = body_of("word " * 100)
        want = await self.undisaggregated(body)
        prefilled = await self.post(p, CHAT, moriio_prefill(body, "tx-1"))
        params = json.loads(prefilled.body)["kv_transfer_params"]
        self.assertEqual(params["transfer_id"], "tx-1")
        self.assertIsInstance(params["remote_block_ids"][0], int)  # a flat list, unlike NIXL's
        leg = moriio_decode(body, prefilled.body)
        self.assertEqual(content(await self.post(d, CHAT, leg)), want)
        await self.eventually(p, open=[], fetched=1, pinned_blocks=0)
        self.assertNotEqual(content(await self.post(d, CHAT, leg)), want)

    async def test_wrong_legs_are_refused(self):
        p, d = await self.pair("moriio")
        body = body_of("word " * 50)
        self.assert_refused(await self.post(p, CHAT, nixl_prefill(body)), "kv_transfer_params.transfer_id")
        prefilled = (await self.post(p, CHAT, moriio_prefill(body, "tx-1"))).body
        self.assert_refused(await self.post(p, CHAT, moriio_prefill(body, "tx-1")), "kv_transfer_params.transfer_id")
        for key in ("remote_engine_id", "remote_block_ids", "remote_host", "remote_handshake_port",
                    "remote_notify_port", "remote_dp_size", "tp_size", "transfer_id"):
            leg = moriio_decode(body, prefilled)
            del leg["kv_transfer_params"][key]
            self.assert_refused(await self.post(d, CHAT, leg), f"kv_transfer_params.{key}")


class Mooncake(HandOff):
    async def bootstrap(self, engine):
        """Address of the bootstrap server, and the engine ids of its ranks."""
        address = (await self.leases(engine))["side_channel"]
        ranks = await self.get(address, "/query")
        return address, {int(r): e["engine_id"] for r, e in json.loads(ranks.body).items()}

    async def legs(self, p, d, body, transfer_id, rank=0, headers=()):
        address, ids = await self.bootstrap(p)
        prefill = asyncio.ensure_future(self.post(p, CHAT, mooncake_prefill(body, transfer_id), headers))
        decode = await self.post(d, CHAT, mooncake_decode(body, transfer_id, address, ids[rank]))
        return await prefill, decode

    async def test_concurrent_legs(self):
        p, d = await self.pair("mooncake")
        body = body_of("word " * 100)
        prefilled, decoded = await self.legs(p, d, body, "xfer-1")
        self.assertIsNone(json.loads(prefilled.body)["kv_transfer_params"])
        self.assertEqual(content(decoded), await self.undisaggregated(body))
        await self.eventually(p, open=[], fetched=1, pinned_blocks=0)

    async def test_the_decode_leg_may_come_first(self):
        p, d = await self.pair("mooncake")
        body = body_of("word " * 100)
        address, ids = await self.bootstrap(p)
        decode = asyncio.ensure_future(self.post(d, CHAT, mooncake_decode(body, "xfer-1", address, ids[0])))
        await self.eventually(d, loading=1)
        self.assertEqual((await self.post(p, CHAT, mooncake_prefill(body, "xfer-1"))).status, 200)
        self.assertEqual(content(await decode), await self.undisaggregated(body))

    async def test_the_rank_that_did_the_prefill_is_asked(self):
        p, d = await self.pair("mooncake", ("--data-parallel-size", "2"), ("--kv-partner-timeout", "300"))
        body = body_of("word " * 50)
        _, decoded = await self.legs(p, d, body, "xfer-1", 1, [("x-data-parallel-rank", "1")])
        self.assertEqual(content(decoded), await self.undisaggregated(body))
        _, decoded = await self.legs(p, d, body, "xfer-2", 0, [("x-data-parallel-rank", "1")])
        self.assertEqual(decoded.status, 500)
        prefilled, _ = await self.legs(p, d, body, "xfer-3", 0, [("x-data-parallel-rank", "2")])
        self.assert_refused(prefilled, "x-data-parallel-rank")

    async def test_a_leg_whose_other_leg_never_comes(self):
        p, d = await self.pair("mooncake", ("--kv-lease", "1000"), ("--kv-partner-timeout", "400"))
        body = body_of("word " * 50)
        address, ids = await self.bootstrap(p)
        self.assertEqual((await self.post(d, CHAT, mooncake_decode(body, "xfer-1", address, ids[0]))).status, 500)
        self.assertEqual((await self.post(p, CHAT, mooncake_prefill(body, "xfer-2"))).status, 200)
        await self.eventually(p, open=[], expired=1, pinned_blocks=0)
        # A spent id is one that nobody knows any more.
        _, decoded = await self.legs(p, d, body, "xfer-3")
        self.assertEqual(decoded.status, 200)
        self.assertEqual((await self.post(d, CHAT, mooncake_decode(body, "xfer-3", address, ids[0]))).status, 500)

    async def test_a_killed_prefill_engine_ends_the_wait(self):
        p, d = await self.pair("mooncake")
        body = body_of("word " * 50)
        address, ids = await self.bootstrap(p)
        decode = asyncio.ensure_future(self.post(d, CHAT, mooncake_decode(body, "xfer-1", address, ids[0])))
        await self.eventually(d, loading=1, peers=1)
        await p.kill()
        self.assertEqual((await decode).status, 500)

    async def test_another_prompt_gives_other_text(self):
        p, d = await self.pair("mooncake")
        body, other = body_of("one " * 50), body_of("two " * 50)
        address, ids = await self.bootstrap(p)
        await self.post(p, CHAT, mooncake_prefill(other, "xfer-1"))
        decoded = await self.post(d, CHAT, mooncake_decode(body, "xfer-1", address, ids[0]))
        self.assertNotEqual(content(decoded), await self.undisaggregated(body))

    async def test_wrong_legs_are_refused(self):
        p, d = await self.pair("mooncake")
        body = body_of("word " * 50)
        leg = mooncake_prefill(body, "xfer-1")
        slow = asyncio.ensure_future(self.post(p, CHAT, leg, [("x-emulator-fault", "delay-first=500ms")]))
        while not json.loads((await self.get(p, "/debug/requests")).body)["received"]:
            await asyncio.sleep(0.01)
        self.assert_refused(await self.post(p, CHAT, leg), "kv_transfer_params.transfer_id")
        self.assertEqual((await slow).status, 200)
        self.assert_refused(await self.post(p, CHAT, {**leg, "max_tokens": 4}), "max_tokens")
        self.assert_refused(await self.post(p, CHAT, {**leg, "max_completion_tokens": 4}), "max_completion_tokens")
        del leg["kv_transfer_params"]["transfer_id"]
        self.assert_refused(await self.post(p, CHAT, leg), "kv_transfer_params.transfer_id")
        for key in ("transfer_id", "remote_engine_id", "remote_bootstrap_addr"):
            leg = mooncake_decode(body, "xfer-1", "127.0.0.1:1", "e_dp0")
            del leg["kv_transfer_params"][key]
            self.assert_refused(await self.post(d, CHAT, leg), f"kv_transfer_params.{key}")
        leg = mooncake_decode(body, "xfer-1", "127.0.0.1:1", "e")
        self.assert_refused(await self.post(d, CHAT, leg), "kv_transfer_params.remote_engine_id")


class Sglang(HandOff):
    async def pair_and_port(self, prefill=(), decode=()):
        port = free_port()
        p, d = await self.pair("sglang", ("--side-channel-port", str(port), *prefill), decode)
        return p, d, port

    async def legs(self, p, d, leg, target=CHAT):
        return await asyncio.gather(self.post(p, target, leg), self.post(d, target, leg))

    async def test_concurrent_legs(self):
        p, d, port = await self.pair_and_port()
        body = body_of("word " * 100)
        prefilled, decoded = await self.legs(p, d, sglang_leg(body, port, 2**63 - 1))
        self.assertEqual(content(decoded), await self.undisaggregated(body))
        self.assertEqual(json.loads(prefilled.body)["usage"]["completion_tokens"], 1)
        await self.eventually(p, open=[], fetched=1, pinned_blocks=0)

    async def test_a_stream_and_a_null_port(self):
        p, d = await self.pair("sglang", ("--side-channel-port", "8998"))
        body = body_of("word " * 100)
        leg = sglang_leg({**body, "stream": True}, None, 5)
        (_, first), (_, events) = await asyncio.gather(self.stream(p, leg), self.stream(d, leg))
        self.assert_whole(events, await self.undisaggregated(body))
        self.assert_whole(first)

    async def test_choices_have_rooms_of_their_own(self):
        p, d, port = await self.pair_and_port()
        body = body_of("word " * 50, n=2)
        alone = json.loads((await self.post(await self.emulated(*FAST), CHAT, body)).body)["choices"]
        _, decoded = await self.legs(p, d, sglang_leg(body, port, 11, 12))
        self.assertEqual([c["message"] for c in json.loads(decoded.body)["choices"]], [c["message"] for c in alone])
        await self.eventually(p, open=[], fetched=2)

        batch = {"model": "tiny", "prompt": ["one " * 30, "two " * 30], "max_tokens": 9}
        target = "/v1/completions"
        alone = json.loads((await self.post(await self.emulated(*FAST), target, batch)).body)["choices"]
        _, decoded = await self.legs(p, d, sglang_leg(batch, port, 13, 14), target)
        self.assertEqual([c["text"] for c in json.loads(decoded.body)["choices"]], [c["text"] for c in alone])

    async def test_a_leg_whose_other_leg_never_comes(self):
        p, d, port = await self.pair_and_port(("--kv-partner-timeout", "200"), ("--kv-partner-timeout", "200"))
        leg = sglang_leg(body_of("word " * 50), port, 7)
        self.assertEqual((await self.post(p, CHAT, leg)).status, 500)
        self.assertEqual((await self.post(d, CHAT, leg)).status, 500)
        await self.eventually(p, open=[], granted=0, pinned_blocks=0)
        await self.eventually(d, loading=0)

    async def test_a_decode_leg_that_dies_holds_the_blocks(self):
        p, d, port = await self.pair_and_port(("--kv-lease", "1000"), ("--kv-bandwidth", "0.001"))
        leg = sglang_leg(body_of("word " * 50), port, 7)
        prefill = asyncio.ensure_future(self.post(p, CHAT, leg))
        decode = asyncio.ensure_future(self.post(d, CHAT, leg))
        await self.eventually(p, granted=1)
        await d.kill()
        with self.assertRaises(Cut):
            await decode
        self.assertEqual(len((await self.leases(p))["open"]), 1)
        self.assertEqual((await prefill).status, 500)
        await self.eventually(p, open=[], expired=1, pinned_blocks=0)

    async def test_wrong_legs_are_refused(self):
        p, d, port = await self.pair_and_port(("--data-parallel-size", "4", "--kv-partner-timeout", "1500"))
        body = body_of("word " * 50)
        for engine in (p, d):
            self.assert_refused(await self.post(engine, CHAT, body), "bootstrap_room")
            self.assert_refused(await self.post(engine, "/v1/responses", {"model": "tiny", "input": "x",
                                "bootstrap_host": "127.0.0.1", "bootstrap_port": port, "bootstrap_room": 1}),
                                "bootstrap_room")
            for key in ("bootstrap_host", "bootstrap_port"):
                leg = sglang_leg(body, port, 3)
                del leg[key]
                self.assert_refused(await self.post(engine, CHAT, leg), key)
            self.assert_refused(await self.post(engine, CHAT, sglang_leg({**body, "n": 2}, port, 3)), "bootstrap_room")
            self.assert_refused(await self.post(engine, CHAT, sglang_leg({**body, "n": 2}, port, 3, 3)),
                                "bootstrap_room")
        self.assert_refused(await self.post(p, CHAT, sglang_leg(body, port + 1, 3)), "bootstrap_port")
        self.assert_refused(await self.post(p, CHAT, sglang_leg(body, port, 6), [("x-data-parallel-rank", "1")]),
                            "bootstrap_room")
        waiting = asyncio.ensure_future(self.post(p, CHAT, sglang_leg(body, port, 6), [("x-data-parallel-rank", "2")]))
        while json.loads((await self.get(p, "/debug/requests")).body)["requests"][-1]["ended"] != "open":
            await asyncio.sleep(0.01)
        self.assert_refused(await self.post(p, CHAT, sglang_leg(body, port, 6)), "bootstrap_room")
        await waiting


class TrtLlm(HandOff):
    async def context(self, engine, body, number=7, target=CHAT):
        response = await self.post(engine, target, trtllm_context(body, number))
        self.assertEqual(response.status, 200, response.body)
        return response.body

    async def test_context_then_generation(self):
        p, d = await self.pair("trtllm")
        body = body_of("word " * 100)
        want = await self.undisaggregated(body)
        first = await self.context(p, body, 2**60 + 1)
        choice = json.loads(first)["choices"][0]
        self.assertEqual(choice["finish_reason"], "not_finished")
        self.assertEqual(choice["disaggregated_params"]["disagg_request_id"], 2**60 + 1)
        leg = trtllm_generation(body, first)
        self.assertEqual(content(await self.post(d, CHAT, leg)), want)
        await self.eventually(p, open=[], fetched=1, pinned_blocks=0)
        self.assertNotEqual(content(await self.post(d, CHAT, leg)), want)
        # The prompt's tokens save the generation engine the cutting, whatever stands in the body.
        ids = json.loads(first)["prompt_token_ids"]
        leg = {**trtllm_generation(body, await self.context(p, body)), "prompt_token_ids": ids,
               "messages": chat("other")["messages"]}
        self.assertEqual(content(await self.post(d, CHAT, leg)), want)

    async def test_text_completions(self):
        p, d = await self.pair("trtllm")
        target, body = "/v1/completions", {"model": "tiny", "prompt": "word " * 50, "max_tokens": 12}
        want = json.loads((await self.post(await self.emulated(*FAST), target, body)).body)["choices"][0]["text"]
        first = await self.context(p, body, 7, target)
        leg = {**trtllm_generation(body, first), "prompt": json.loads(first)["prompt_token_ids"]}
        answer = await self.post(d, target, leg)
        self.assertEqual(json.loads(answer.body)["choices"][0]["text"], want)

    async def test_a_context_answer_that_is_complete(self):
        p, _ = await self.pair("trtllm")
        body = body_of("word " * 50, max_tokens=1)
        choice = json.loads(await self.context(p, body))["choices"][0]
        self.assertEqual(choice["finish_reason"], "length")
        word = choice["message"]["content"]
        stopped = json.loads(await self.context(p, body_of("word " * 50, stop=[word])))["choices"][0]
        self.assertEqual(stopped["finish_reason"], "stop")
        self.assertNotIn("disaggregated_params", stopped)
        self.assertEqual((await self.leases(p))["granted"], 1)  # the first alone
        self.assertEqual(len((await self.leases(p))["open"]), 1)

    async def test_wrong_legs_are_refused(self):
        p, d = await self.pair("trtllm")
        body = body_of("word " * 50)
        leg = trtllm_context(body, 7)
        self.assert_refused(await self.post(p, CHAT, {**leg, "stream": True}), "stream")
        self.assert_refused(await self.post(p, CHAT, {**leg, "n": 2}), "n")
        self.assert_refused(await self.post(p, CHAT, body), "disaggregated_params")
        self.assert_refused(await self.post(p, CHAT, {**leg, "disaggregated_params": {"request_type": "context"}}),
                            "disaggregated_params.request_type")
        self.assert_refused(await self.post(p, CHAT, {**leg, "disaggregated_params": {
            "request_type": "context_only"}}), "disaggregated_params.disagg_request_id")
        first = await self.context(p, body)
        for key in ("ctx_request_id", "first_gen_tokens", "encoded_opaque_state", "disagg_request_id"):
            leg = trtllm_generation(body, first)
            del leg["disaggregated_params"][key]
            self.assert_refused(await self.post(d, CHAT, leg), f"disaggregated_params.{key}")
        leg = trtllm_generation(body, first)
        leg["disaggregated_params"]["disagg_request_id"] = 8
        self.assert_refused(await self.post(d, CHAT, leg), "disaggregated_params.disagg_request_id")
        self.assert_refused(await self.post(d, CHAT, trtllm_context(body, 7)), "disaggregated_params")


if __name__ == "__main__":
    unittest.main()
