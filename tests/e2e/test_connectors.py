"""The other serial connectors, through the same questions as NIXL: TensorRT-LLM's context and generation engines, and
vLLM's MoRI-IO in read mode. Their engines refuse a leg with a wrong field, and read late, twice or elsewhere they give
other text."""
import unittest

import test_disaggregated as nixl
from harness.wire import data_of


class TrtLlm(nixl.Fleet):
    connector = "trtllm"


class TrtLlmWhole(TrtLlm):
    async def test_a_stream_and_a_whole_answer(self):
        await self.engines()
        proxy = await self.split_proxy()
        for target, more in (("/v1/chat/completions", nixl.body(nixl.prompt(1))),
                             ("/v1/completions", {"model": "emulated", "prompt": nixl.LONG, "max_tokens": 9})):
            plain = await self.emulated()
            wanted = (await self.post(plain.address, target, {**more, "stream": False})).json()["choices"][0]
            got = await self.post(proxy, target, {**more, "stream": False})
            self.assertEqual(got.status, 200, got.body)
            for member in ("message", "text", "finish_reason"):
                self.assertEqual(got.json()["choices"][0].get(member), wanted.get(member))
            self.assertNotIn("context_only", got.body.decode())
            response, events = await self.stream(proxy, {**more, "stream": True}, target)
            self.assertEqual(response.status, 200)
            self.assert_whole(events)
            choices = [data_of(e)["choices"][0] for e in events[:-1]]
            said = "".join(c["text"] if "text" in c else c["delta"].get("content", "") for c in choices)
            self.assertEqual(said, wanted["text"] if "text" in wanted else wanted["message"]["content"])
        lines = await proxy.access_log(4)
        self.assertEqual({(line["split"], line["handoff"]) for line in lines}, {("told_to", "fetched")})
        await self.until_all_closed(proxy)

    async def test_cached_tokens_are_the_context_engines(self):
        await self.engines()
        proxy = await self.split_proxy()
        for cached in (False, True):
            events = await self.assert_served(proxy, nixl.prompt(2), stream_options={"include_usage": True})
            usage = [data_of(e)["usage"] for e in events if b'"choices":[]' in e][0]
            self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"] > 0, cached)

    async def test_an_answer_that_the_context_engine_ended_is_the_answer(self):
        await self.engines()
        proxy = await self.split_proxy()
        plain = await self.emulated()
        one = (await self.post(plain.address, "/v1/chat/completions", nixl.body(nixl.prompt(3), stream=False, max_tokens=1)))
        word = one.json()["choices"][0]["message"]["content"]
        sent = nixl.body(nixl.prompt(3), stop=[word])
        wanted = (await self.post(plain.address, "/v1/chat/completions", {**sent, "stream": False})).json()
        whole = await self.post(proxy, "/v1/chat/completions", {**sent, "stream": False})
        self.assertEqual(whole.status, 200)
        self.assertEqual(whole.json()["choices"][0]["message"]["content"], wanted["choices"][0]["message"]["content"])
        self.assertEqual(whole.json()["choices"][0]["finish_reason"], "stop")
        self.assertEqual(whole.json()["usage"]["completion_tokens"], wanted["usage"]["completion_tokens"])
        self.assertNotIn("disaggregated_params", whole.body.decode())
        response, events = await self.stream(proxy, {**sent, "stream": True, "stream_options": {"include_usage": True}})
        self.assertEqual((response.status, response.header("content-type")), (200, "text/event-stream; charset=utf-8"))
        self.assert_whole(events, wanted["choices"][0]["message"]["content"])
        self.assertEqual([data_of(e)["choices"][0]["finish_reason"] for e in events[:-2]][-1], "stop")
        self.assertEqual(data_of(events[-2])["usage"]["prompt_tokens"], wanted["usage"]["prompt_tokens"])
        lines = await proxy.access_log(2)
        self.assertEqual({(line["reason"], line["handoff"]) for line in lines}, {("ok", "complete")})
        for engine in self.decodes:
            self.assertEqual(len((await self.get(engine.address, "/debug/requests")).json()["requests"]), 0)
        await self.until_all_closed(proxy)

    async def test_responses_have_no_hand_off_and_go_to_one_place(self):
        await self.engines()
        proxy = await self.split_proxy()
        response = await self.post(proxy, "/v1/responses", {"model": "emulated", "input": nixl.LONG, "max_output_tokens": 4})
        self.assertEqual(response.status, 200, response.body)
        self.assertEqual((await proxy.access_log(1))[0]["split"], "not_carried")


class TrtLlmFaults(TrtLlm, nixl.Faults):
    pass


class TrtLlmLeaving(TrtLlm, nixl.Leaving):
    pass


class TrtLlmLoad(TrtLlm, nixl.Load):
    pass


class MoriIo(nixl.Fleet):
    connector = "moriio"


class MoriIoWhole(MoriIo, nixl.Whole):
    pass


class MoriIoFaults(MoriIo, nixl.Faults):
    pass


class MoriIoLeaving(MoriIo, nixl.Leaving):
    pass


class MoriIoRefused(MoriIo, nixl.Refused):
    pass


class MoriIoLoad(MoriIo, nixl.Load):
    pass


if __name__ == "__main__":
    unittest.main()
