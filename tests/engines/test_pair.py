"""Prefill and decode on different real vLLMs, blocks handed on by NIXL, behind Penstock."""
import asyncio
import http.server
import re
import threading
import unittest
import urllib.error
import urllib.request

from harness.case import Case
from harness.wire import chat, data_of, text_of
from real_engine import PARTS, SETTINGS, RealEngine

CHAT = "/v1/chat/completions"
GREEDY = {"temperature": 0, "max_tokens": 16}
LEASE = 30  # seconds, vLLM's own


def prompt(i):
    return f"{i}: " + "You may convey a work based on the program, or the modifications to produce it. " * 24


class Liar:
    """Stands before a prefill engine and names another engine in the hand-offs that it answers."""

    def __init__(self, engine):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def relay(self):
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0))) if self.command == "POST" else None
                request = urllib.request.Request(engine.url + self.path, sent, {"Content-Type": "application/json"}, method=self.command)
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        status, kind, body = answer.status, answer.headers["Content-Type"], answer.read()
                except urllib.error.HTTPError as e:
                    status, kind, body = e.code, e.headers["Content-Type"], e.read()
                body = re.sub(rb'("remote_engine_id":)"[^"]*"', rb'\1"00000000-0000-4000-8000-000000000000"', body)
                self.send_response(status)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass  # a probe that did not wait
            do_GET = do_POST = relay

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@unittest.skipUnless("vllm" in PARTS, "vLLM is not asked for")
class Pair(Case):
    proxy_settings = SETTINGS

    @classmethod
    def setUpClass(cls):
        cls.prefills = [RealEngine("vllm", "prefill") for _ in range(2)]
        cls.decodes = [RealEngine("vllm", "decode", policy) for policy in ("fail", "recompute")]
        for engine in cls.prefills + cls.decodes:
            engine.start()
            cls.addClassCleanup(engine.kill)
        for engine in cls.prefills + cls.decodes:
            engine.wait(600)

    async def split_proxy(self, prefills=None, decodes=None):
        endpoints = [{"url": e.url, "role": "prefill"} for e in prefills or self.prefills]
        endpoints += [{"url": e.url, "role": "decode"} for e in decodes or self.decodes]
        pool = {"name": "main", "models": ["tiny"], "endpoint": endpoints,
                "disaggregation": {"connector": "nixl", "split": "always", "lease": f"{LEASE}s"}}
        return await self.proxy(pool=[pool], limits={"retry_budget": 1.0}, server={"expose_routing": True})

    async def ask(self, proxy, body):
        return await asyncio.to_thread(self.prefills[0].ask, CHAT, body, f"http://{proxy.address}")

    async def alone(self, content):
        """What an engine that does all itself answers."""
        answer = await asyncio.to_thread(self.decodes[0].ask, CHAT, chat(content, stream=False, **GREEDY))
        return answer["choices"][0]["message"]["content"]

    async def asyncSetUp(self):
        await self.until_freed()
        self.before = await self.expiries()

    async def until_freed(self):
        """No prefill engine holds blocks any more, be it that their lease was over."""
        deadline = asyncio.get_running_loop().time() + 2 * LEASE
        while any([await asyncio.to_thread(e.metric, "vllm:kv_cache_usage_perc") for e in self.prefills]):
            self.assertLess(asyncio.get_running_loop().time(), deadline, "blocks are held for ever")
            await asyncio.sleep(0.1)

    async def expiries(self):
        for engine in self.prefills:  # what a connector counted is told with the engine's next step
            await asyncio.to_thread(engine.ask, CHAT, chat("step", stream=False, **GREEDY))
        names = "vllm:nixl_num_kv_expired_reqs_total", "vllm:nixl_num_notifications_after_expiry_total"
        return [sum([await asyncio.to_thread(e.metric, n) for e in self.prefills]) for n in names]

    async def assert_blocks_freed(self, lines=(), may_expire=0):
        """At most so many hand-offs were left to their lease, and none was fetched after it. `lines`: of the access log, to look at if not."""
        await self.until_freed()
        expired, too_late = [now - then for now, then in zip(await self.expiries(), self.before)]
        self.assertTrue(expired <= may_expire and too_late == 0, f"{expired} expired, {too_late} fetched after that; {lines}")

    async def test_the_text_is_the_same(self):
        proxy = await self.split_proxy()
        for i in range(4):
            body = chat(prompt(f"same {i}"), stream=False, **GREEDY)
            split = await self.ask(proxy, body)
            _, events = await self.stream(proxy, {**body, "stream": True})
            text = split["choices"][0]["message"]["content"]
            self.assert_whole(events, text)
            self.assertEqual(text, await self.alone(prompt(f"same {i}")))
        # One after the other they stay with the pair that has shaken hands; at once there is too much for one prefill engine.
        await asyncio.gather(*(self.ask(proxy, chat(f"burst {i} " + prompt(i) * 3, stream=False, temperature=0, max_tokens=1)) for i in range(16)))
        lines = await proxy.access_log(24)
        self.assertEqual({(r["reason"], r["split"], r["handoff"]) for r in lines}, {("ok", "told_to", "fetched")})
        self.assertEqual({r["prefill_endpoint"] for r in lines}, {e.url for e in self.prefills}, "both prefill engines work")
        await self.assert_blocks_freed(lines)

    async def test_tokens_come_from_the_prefill_engine(self):
        source = 'vllm:prompt_tokens_by_source_total{engine="0",model_name="tiny",source="external_kv_transfer"}'
        proxy = await self.split_proxy(self.prefills[:1], self.decodes[:1])
        before = self.decodes[0].metrics()[source]
        first = (await self.ask(proxy, chat(prompt("tokens"), stream=False, **GREEDY)))["usage"]
        self.assertEqual(first["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertEqual(self.decodes[0].metrics()[source] - before, first["prompt_tokens"])
        # Both engines have it now; what the prefill engine found in its cache is what the client is told.
        hits = self.prefills[0].metric("vllm:prefix_cache_hits_total")
        _, events = await self.stream(proxy, chat(prompt("tokens"), stream_options={"include_usage": True}, **GREEDY))
        usage = [data_of(e)["usage"] for e in events if b'"choices":[]' in e][0]
        found = self.prefills[0].metric("vllm:prefix_cache_hits_total") - hits
        self.assertGreater(found, 0)
        self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], found)

    async def test_zx_clients_leave_in_each_leg(self):
        proxy = await self.split_proxy()
        # Longer than all buffers on the way: an engine that is short of cores generates everything before its first event goes out, and
        # a client that leaves upon that event would have had a whole answer.
        long = {"temperature": 0, "max_tokens": 6000, "ignore_eos": True, "logprobs": True, "top_logprobs": 20}
        for i, pause in enumerate([0, 0.02, 0.05, 0.1, 0.2, 0.4]):
            connection = await self.connect(proxy, receive_buffer=4096)
            asking = asyncio.ensure_future(connection.start(CHAT, chat(prompt(f"leave {i}"), **long)))
            await asyncio.sleep(pause)
            connection.close()
            await asyncio.gather(asking, return_exceptions=True)
        connection = await self.connect(proxy, receive_buffer=4096)
        response = await connection.start(CHAT, chat(prompt("decode"), **long))
        await anext(connection.events(response))
        connection.close()
        for engine in self.prefills + self.decodes:
            await asyncio.to_thread(engine.until_running, 0)
        lines = await proxy.access_log(7)
        self.assertEqual({r["reason"] for r in lines}, {"client_gone"}, lines)
        self.assertNotIn("expired", {r.get("handoff") for r in lines})
        # A prefill whose client leaves is cut at once; where its answer was on the way already, the engine cannot know.
        await self.assert_blocks_freed(lines, sum("handoff" not in r for r in lines))

    async def test_zy_a_hand_off_of_an_engine_that_is_not_there(self):
        """Late, since its blocks are held until their lease is over."""
        for decode in self.decodes:
            liar = Liar(self.prefills[0])
            try:
                proxy = await self.split_proxy([liar], [decode])
                content = prompt(f"liar {decode.policy}")
                _, events = await self.stream(proxy, chat(content, **GREEDY))
                self.assert_whole(events, await self.alone(content))
                line = (await proxy.access_log(1))[0]
                # With "fail" the decode engine refuses, and does the request anew, alone.
                self.assertEqual((line["status"], line["attempts"]), (200, 2 if decode.policy == "fail" else 1))
            finally:
                liar.close()

    async def test_zz_each_engine_dies_in_turn(self):
        """Last, since it costs the engines."""
        proxy = await self.split_proxy()
        connection = await self.connect(proxy)
        response = await connection.start(CHAT, chat(prompt("die"), temperature=0, max_tokens=3000, ignore_eos=True))
        events = connection.events(response)
        got = [await anext(events)]
        victim = next(e for e in self.decodes if e.url == response.header("x-penstock-endpoint"))
        victim.kill()
        got += [e async for e in events]
        self.assertNotIn(b"data: [DONE]\n\n", got)
        self.assertEqual(len([e for e in got if b'"error"' in e]), 1)
        left = next(e for e in self.decodes if e is not victim)

        async def served(content):
            _, events = await self.stream(proxy, chat(content, **GREEDY))
            answer = await asyncio.to_thread(left.ask, CHAT, chat(content, stream=False, **GREEDY))
            self.assert_whole(events, answer["choices"][0]["message"]["content"])
        for i in range(2):
            await served(prompt(f"one decode engine {i}"))
        self.prefills[0].kill()
        for i in range(2):
            await served(prompt(f"one of each {i}"))
        self.prefills[1].kill()
        for i in range(2):
            await served(prompt(f"no prefill engine {i}"))
        self.assertEqual([r["reason"] for r in (await proxy.access_log(7))[1:]], ["ok"] * 6)


if __name__ == "__main__":
    unittest.main()
