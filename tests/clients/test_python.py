"""OpenAI's, Anthropic's and LangChain's Python clients, unchanged, through Penstock.

Run by tests/clients/run, which sets PENSTOCK_URL (the proxy) and PENSTOCK_ENGINES (the emulated engines behind it).
"""
import asyncio
import os
import time
import unittest
import urllib.request

import anthropic
import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool as langchain_tool
from langchain_openai import ChatOpenAI

URL = os.environ["PENSTOCK_URL"]
ENGINES = os.environ["PENSTOCK_ENGINES"].split(",")
HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather of a city.",
                                         "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
                                                        "required": ["city"]}}}
# An answer that takes minutes: whoever stops it did cancel it.
ENDLESS = {"max_tokens": 4000, "extra_body": {"min_tokens": 4000, "ignore_eos": True}, "extra_headers": {"x-emulator-fault": "slow=5"}}


def faulty(fault):
    return {"x-emulator-fault": fault}


def running():
    """Requests that the engines compute right now, by their own metrics."""
    total = 0.0
    for engine in ENGINES:
        with urllib.request.urlopen(engine + "/metrics", timeout=10) as response:
            for line in response.read().decode().splitlines():
                if line.startswith("vllm:num_requests_running"):
                    total += float(line.rsplit(" ", 1)[1])
    return total


def until_running(count, seconds=20):
    deadline = time.monotonic() + seconds
    while running() != count:
        if time.monotonic() > deadline:
            raise AssertionError(f"the engines run {running()} requests, not {count}")
        time.sleep(0.02)


class OpenAiSync(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=URL + "/v1", api_key="any", max_retries=0)
        self.addCleanup(self.client.close)

    def test_stream_equals_whole_answer(self):
        whole = self.client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=12)
        self.assertEqual(whole.usage.completion_tokens, 12)
        text, finish, usages = "", None, []
        for chunk in self.client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=12, stream=True):
            if chunk.usage:
                usages.append(chunk.usage)
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
        self.assertEqual((text, finish), (whole.choices[0].message.content, "length"))
        self.assertEqual(usages, [], "usage that was not asked for")

    def test_usage_when_asked_for(self):
        chunks = list(self.client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=5, stream=True,
                                                          stream_options={"include_usage": True}))
        self.assertEqual(chunks[-1].usage.completion_tokens, 5)
        self.assertEqual(chunks[-1].choices, [])

    def test_stream_helper(self):
        with self.client.chat.completions.stream(model="tiny", messages=HELLO) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        self.assertIn("content.delta", kinds)
        self.assertTrue(final.choices[0].message.content)

    def test_tools(self):
        asked = HELLO
        whole = self.client.chat.completions.create(model="tiny", messages=asked, tools=[TOOL], tool_choice="required")
        call = whole.choices[0].message.tool_calls[0]
        self.assertEqual((call.function.name, whole.choices[0].finish_reason), ("get_weather", "tool_calls"))
        name, arguments = "", ""
        for chunk in self.client.chat.completions.create(model="tiny", messages=asked, tools=[TOOL], tool_choice="required", stream=True):
            for delta in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                name += delta.function.name or ""
                arguments += delta.function.arguments or ""
        self.assertEqual((name, arguments), ("get_weather", call.function.arguments))
        after = asked + [whole.choices[0].message.model_dump(exclude_none=True),
                         {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
        final = self.client.chat.completions.create(model="tiny", messages=after, tools=[TOOL], max_tokens=5)
        self.assertTrue(final.choices[0].message.content)

    def test_cancel_mid_stream(self):
        until_running(0)
        stream = self.client.chat.completions.create(model="tiny", messages=HELLO, stream=True, **ENDLESS)
        for _ in zip(range(3), stream):
            pass
        self.assertEqual(running(), 1)
        stream.close()
        until_running(0)

    def test_errors_are_the_sdks_own(self):
        create = self.client.chat.completions.create
        with self.assertRaises(openai.BadRequestError) as refused:
            create(model="tiny", messages=HELLO, extra_body={"kv_transfer_params": {"do_remote_prefill": True}})
        self.assertEqual((refused.exception.param, refused.exception.code), ("kv_transfer_params", "field_not_allowed"))
        self.assertTrue(refused.exception.request_id)
        with self.assertRaises(openai.NotFoundError):
            create(model="no-such-model", messages=HELLO)
        with self.assertRaises(openai.RateLimitError) as busy:
            create(model="tiny", messages=HELLO, extra_headers=faulty("status=429,retry-after=3"))
        self.assertEqual(busy.exception.response.headers["retry-after"], "3")
        with self.assertRaises(openai.InternalServerError):
            create(model="tiny", messages=HELLO, extra_headers=faulty("status=500"))
        with self.assertRaises(openai.InternalServerError):
            create(model="tiny", messages=HELLO, extra_headers=faulty("reset"))
        with self.assertRaises(openai.APIStatusError) as large:
            create(model="tiny", messages=[{"role": "user", "content": "x" * (33 << 20)}])
        self.assertEqual(large.exception.status_code, 413)

    def test_a_broken_stream_raises(self):
        for fault in ("die-after=3", "cut-after=3", "no-end-after=3", "garbage-after=3", "error-event-after=3"):
            with self.subTest(fault), self.assertRaises(openai.APIError):
                for _ in self.client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=50, stream=True,
                                                             extra_headers=faulty(fault)):
                    pass

    def test_completions(self):
        whole = self.client.completions.create(model="tiny", prompt="once", max_tokens=7)
        streamed = "".join(c.choices[0].text for c in self.client.completions.create(model="tiny", prompt="once", max_tokens=7, stream=True)
                           if c.choices)
        self.assertEqual(streamed, whole.choices[0].text)

    def test_responses(self):
        whole = self.client.responses.create(model="tiny", input="hello", max_output_tokens=8)
        self.assertTrue(whole.output_text)
        kinds, text = [], ""
        for event in self.client.responses.create(model="tiny", input="hello", max_output_tokens=8, stream=True):
            kinds.append(event.type)
            text += event.delta if event.type == "response.output_text.delta" else ""
        self.assertEqual(text, whole.output_text)
        self.assertIn(kinds[-1], ("response.completed", "response.incomplete"))
        follow = self.client.responses.create(model="tiny", input="and?", max_output_tokens=4, previous_response_id=whole.id)
        self.assertTrue(follow.output_text)
        with self.assertRaises(openai.BadRequestError) as lost:
            self.client.responses.create(model="tiny", input="x", previous_response_id="resp_nobody")
        self.assertEqual(lost.exception.param, "previous_response_id")

    def test_a_broken_responses_stream(self):
        kinds = []
        try:
            for event in self.client.responses.create(model="tiny", input="hi", max_output_tokens=50, stream=True,
                                                      extra_headers=faulty("die-after=3")):
                kinds.append(event.type)
        except openai.APIError:
            return
        self.assertEqual(kinds[-1], "response.failed")

    def test_embeddings_and_models(self):
        self.assertEqual(len(self.client.embeddings.create(model="tiny", input=["a", "b"]).data), 2)
        self.assertIn("tiny", [m.id for m in self.client.models.list()])
        self.assertEqual(self.client.models.retrieve("tiny").id, "tiny")


class OpenAiAsync(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.client = openai.AsyncOpenAI(base_url=URL + "/v1", api_key="any", max_retries=0)
        self.addAsyncCleanup(self.client.close)

    async def read(self, **more):
        text = ""
        async for chunk in await self.client.chat.completions.create(model="tiny", messages=HELLO, stream=True, **more):
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
        return text

    async def test_many_streams_at_once(self):
        texts = await asyncio.gather(*(self.read(max_tokens=10) for _ in range(50)))
        self.assertEqual(len(set(texts)), 1)
        self.assertTrue(texts[0])

    async def test_cancel_mid_stream(self):
        await asyncio.to_thread(until_running, 0)
        stream = await self.client.chat.completions.create(model="tiny", messages=HELLO, stream=True, **ENDLESS)
        await anext(stream)
        await stream.close()
        await asyncio.to_thread(until_running, 0)

    async def test_a_cancelled_task(self):
        await asyncio.to_thread(until_running, 0)
        task = asyncio.ensure_future(self.read(**ENDLESS))
        await asyncio.to_thread(until_running, 1)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(until_running, 0)

    async def test_errors(self):
        with self.assertRaises(openai.BadRequestError):
            await self.client.chat.completions.create(model="tiny", messages=HELLO, extra_body={"bootstrap_room": 1})
        with self.assertRaises(openai.APIError):
            await self.read(max_tokens=50, extra_headers=faulty("die-after=3"))
        with self.assertRaises(openai.APITimeoutError):
            await self.client.with_options(timeout=0.5).chat.completions.create(
                model="tiny", messages=HELLO, extra_headers=faulty("delay-head=20s"))
        await asyncio.to_thread(until_running, 0)


class Anthropic(unittest.TestCase):
    def setUp(self):
        self.client = anthropic.Anthropic(base_url=URL, api_key="any", max_retries=0)
        self.addCleanup(self.client.close)

    def test_stream_equals_whole_answer(self):
        whole = self.client.messages.create(model="tiny", max_tokens=9, messages=HELLO)
        with self.client.messages.stream(model="tiny", max_tokens=9, messages=HELLO) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual(text, whole.content[0].text)
        self.assertEqual((final.stop_reason, final.usage.output_tokens), ("max_tokens", 9))

    def test_tools(self):
        tool = {"name": "get_weather", "description": "Weather.", "input_schema": TOOL["function"]["parameters"]}
        answer = self.client.messages.create(model="tiny", max_tokens=200, messages=HELLO, tools=[tool], tool_choice={"type": "any"})
        use = [block for block in answer.content if block.type == "tool_use"][0]
        self.assertEqual((use.name, answer.stop_reason), ("get_weather", "tool_use"))

    def test_cancel_mid_stream(self):
        until_running(0)
        with self.client.messages.stream(model="tiny", max_tokens=4000, messages=HELLO, extra_headers=faulty("slow=50")) as stream:
            next(iter(stream.text_stream))
            self.assertEqual(running(), 1)
        until_running(0)

    def test_errors(self):
        with self.assertRaises(anthropic.BadRequestError) as refused:
            self.client.messages.create(model="tiny", max_tokens=9, messages=HELLO, extra_body={"kv_transfer_params": {}})
        self.assertEqual(refused.exception.body["error"]["type"], "invalid_request_error")
        with self.assertRaises(anthropic.APIStatusError):
            with self.client.messages.stream(model="tiny", max_tokens=50, messages=HELLO, extra_headers=faulty("die-after=3")) as stream:
                for _ in stream:
                    pass
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.create(model="none", max_tokens=9, messages=HELLO)


@langchain_tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"sunny in {city}"


class LangChain(unittest.TestCase):
    def model(self, **more):
        return ChatOpenAI(model="tiny", base_url=URL + "/v1", api_key="any", max_retries=0, max_tokens=12, **more)

    def test_invoke_and_stream(self):
        whole = self.model().invoke("hello")
        streamed = None
        for chunk in self.model(stream_usage=True).stream("hello"):
            streamed = chunk if streamed is None else streamed + chunk
        self.assertEqual(streamed.content, whole.content)
        self.assertEqual(streamed.usage_metadata["output_tokens"], 12)

    def test_async_stream(self):
        async def read():
            return "".join([chunk.content async for chunk in self.model().astream("hello")])
        self.assertEqual(asyncio.run(read()), self.model().invoke("hello").content)

    def test_tools(self):
        bound = ChatOpenAI(model="tiny", base_url=URL + "/v1", api_key="any", max_retries=0).bind_tools([get_weather], tool_choice="any")
        message = bound.invoke("weather?")
        self.assertEqual(message.tool_calls[0]["name"], "get_weather")
        result = ToolMessage(content="sunny", tool_call_id=message.tool_calls[0]["id"])
        self.assertTrue(self.model().invoke([HumanMessage("weather?"), message, result]).content)

    def test_errors(self):
        with self.assertRaises(openai.NotFoundError):
            ChatOpenAI(model="none", base_url=URL + "/v1", api_key="any", max_retries=0).invoke("hello")


if __name__ == "__main__":
    unittest.main()
