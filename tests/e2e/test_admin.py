"""What operators see: metrics, health, the fleet, the access log, explain, demo."""
import asyncio
import json
import os
import re
import signal
import tempfile
import unittest

from harness.case import Case
from harness.process import Process, free_port, run
from harness.wire import chat, text_of

CHAT = "/v1/chat/completions"
SAMPLE = re.compile(r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\.)*",?)*\})? '
                    r"(-?[0-9.]+([eE][+-]?[0-9]+)?|[+-]Inf|NaN)( \d+)?$")


class Metrics(Case):
    async def test_the_text_is_well_formed(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        await self.stream(proxy, chat())
        response = await proxy.ask_admin("/metrics")
        self.assertTrue(response.header("content-type").startswith("text/plain"))
        typed, seen = {}, set()
        for line in response.body.decode().splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.assertNotIn(name, typed, "a family occurs once")
                typed[name] = kind
            elif line and not line.startswith("#"):
                self.assertRegex(line, SAMPLE)
                series = line.rsplit(" ", 1)[0]
                self.assertNotIn(series, seen)
                seen.add(series)
                self.assertTrue(series.startswith("penstock_"), series)
        for name, kind in typed.items():
            if kind == "counter":
                self.assertTrue(name.endswith("_total"), name)

    async def test_requests_are_counted_once_by_reason(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        for _ in range(5):
            await self.stream(proxy, chat())
        for _ in range(3):
            await self.post(proxy, CHAT, b"{")
        samples = await proxy.metrics()
        requests = {k: v for k, v in samples.items() if k.startswith("penstock_requests_total")}
        self.assertEqual(sum(v for k, v in requests.items() if 'reason="ok"' in k and 'api="chat"' in k), 5, requests)
        self.assertEqual(sum(v for k, v in requests.items() if 'reason="invalid_json"' in k), 3, requests)

    async def test_tokens_and_gauges_return_to_rest(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        for i in range(10):
            await self.stream(proxy, chat(str(i)))
        samples = await proxy.metrics()
        for name, value in samples.items():
            if re.search(r"(in_flight|outstanding|buffered|buffer_bytes|body_bytes_held|streams)(\{|$)", name):
                self.assertEqual(value, 0, f"{name} did not come back to rest")
        self.assertTrue([k for k in samples if k.startswith("penstock_build_info")])


class Views(Case):
    async def test_health(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        self.assertEqual((await proxy.ask_admin("/livez")).status, 200)
        self.assertEqual((await proxy.ask_admin("/readyz")).status, 200)
        self.assertEqual((await proxy.ask_admin("/nothing")).status, 404)

    async def test_fleet(self):
        engines = [await self.fake() for _ in range(2)]
        proxy = await self.proxy(*engines, pool=[{"name": "main", "models": ["*"], "endpoint": [
            {"url": engines[0].url, "api_key": "very-secret"}, {"url": engines[1].url}]}])

        async def up_and_scraped():
            endpoints = (await proxy.fleet())["pools"][0]["endpoints"]
            return all(e["state"] == "up" and e["engine"]["kv_blocks"] == 4096 for e in endpoints)
        await proxy.until(up_and_scraped, "both engines are up and their cache size is known")
        fleet = await proxy.fleet()
        self.assertEqual([e["url"] for e in fleet["pools"][0]["endpoints"]], [engine.url for engine in engines])
        self.assertNotIn("very-secret", json.dumps(fleet))

    async def test_secrets_are_nowhere(self):
        engine = await self.fake()
        proxy = await self.proxy(engine, pool=[{"name": "main", "models": ["*"], "endpoint": [
            {"url": engine.url, "api_key": "very-secret", "headers": {"X-K": "also-secret"}}]}])
        await self.stream(proxy, chat("the prompt is private"))
        await proxy.access_log(1)
        pages = [(await proxy.ask_admin(p)).body.decode() for p in ("/", "/debug/fleet", "/debug/config", "/metrics")]
        for text in pages + proxy.out + proxy.err:
            for secret in ("very-secret", "also-secret", "the prompt is private"):
                self.assertNotIn(secret, text)


    async def test_the_status_page(self):
        engines = [await self.fake() for _ in range(2)]
        proxy = await self.proxy(*engines)
        await self.stream(proxy, chat())

        async def scraped():
            page = (await proxy.ask_admin("/")).body.decode()
            return "0.0 %</td>" not in page and "1.0 %</td>" in page and "1 requests ended, 1 of them well" in page
        await proxy.until(scraped, "the page shows the request and the engines' figures")
        response = await proxy.ask_admin("/")
        self.assertTrue(response.header("content-type").startswith("text/html"))
        page = response.body.decode()
        for text in [e.url for e in engines] + ["Penstock", ">main ", ">up<", ">tiny<"]:
            self.assertIn(text, page)
        self.assertNotIn("<script", page)


class AccessLog(Case):
    async def test_one_line_a_request(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        await self.stream(proxy, chat(), headers=[("X-Request-Id", "id-1"), ("traceparent", "00-aa-bb-01")])
        await self.post(proxy, CHAT, b"{")
        await self.get(proxy, "/nowhere\"quote")
        records = await proxy.access_log(3)
        self.assertEqual(len(records), 3)
        good = records[0]
        self.assertEqual((good["request_id"], good["status"], good["reason"], good["api"]), ("id-1", 200, "ok", "chat"))
        self.assertEqual((good["model"], good["pool"], good["stream"]), ("tiny", "main", True))
        self.assertIn(str(engine.port), good["endpoint"])
        self.assertEqual(records[1]["reason"], "invalid_json")
        self.assertEqual(records[2]["status"], 404 if records[2]["reason"] == "not_found" else 400)

    async def test_hostile_text_stays_one_line(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        await self.post(proxy, CHAT, chat(model='x","reason":"ok"}\n{"a":1, \u2028\u0000'.replace("\u0000", "")))
        record = (await proxy.access_log(1))[0]
        self.assertIn("reason", record)
        self.assertEqual(len([line for line in proxy.out if line.startswith("{")]), 1)

    async def test_a_file(self):
        engine = await self.fake()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "access.log")
            proxy = await self.proxy(engine, log={"access": path})
            await self.stream(proxy, chat())

            async def written():
                return os.path.exists(path) and os.path.getsize(path) > 0
            await proxy.until(written, "a line in the file")
            with open(path, encoding="utf-8") as f:
                self.assertEqual(json.loads(f.readline())["reason"], "ok")


class Explain(Case):
    async def test_a_request(self):
        engines = [await self.fake() for _ in range(2)]
        proxy = await self.proxy(*engines)
        request = os.path.join(proxy.folder.name, "request.json")
        with open(request, "w", encoding="utf-8") as f:
            json.dump(chat("explain me " * 500), f)
        code, out, err = await run("explain", "-c", proxy.file, request)
        self.assertEqual(code, 0, out + err)
        for engine in engines:
            self.assertIn(str(engine.port), out)


    async def test_a_running_proxy_tells_what_it_has_learned(self):
        engines = [await self.emulated(), await self.emulated()]
        proxy = await self.proxy(*engines)
        body = chat("explain me " * 500, model="emulated")
        await self.stream(proxy, body)
        request = os.path.join(proxy.folder.name, "request.json")
        with open(request, "w", encoding="utf-8") as f:
            json.dump(body, f)
        code, out, err = await run("explain", "-c", proxy.file, request, "--state", f"http://127.0.0.1:{proxy.admin_port}")
        self.assertEqual(code, 0, out + err)
        self.assertRegex(out, r"because its score is the lowest, and it holds \d of \d prompt blocks")
        self.assertRegex(out, r"block 0 +bytes 0 to 1023, \d+ tokens")
        self.assertIn("predicted time to the first token", out)
        state = f"http://127.0.0.1:{proxy.admin_port}"
        for words in (["-c", proxy.file, "--state", state, request], ["--state", state, request, "-c", proxy.file]):
            code, out, err = await run("explain", *words)
            self.assertEqual(code, 0, err)
            self.assertIn("prompt blocks", out)
        for words in (["-c", proxy.file, request, "--state"], [request], ["-c", proxy.file, request, request],
                      ["-c", proxy.file, "--stat", state, request]):
            code, out, err = await run("explain", *words)
            self.assertEqual((code, out, err[:6]), (1, "", "usage:"), words)
        code, out, err = await run("explain", "-c", proxy.file, request, "--state", "http://127.0.0.1:1")
        self.assertEqual(code, 1)
        self.assertIn("admin.listen", err)

    async def test_it_knows_whose_request_it_is(self):
        proxy = await self.proxy(await self.emulated(), routing={"tenant_salt": "header:x-tenant"})
        body = chat("explain me " * 500, model="emulated")

        async def held_by(*headers):
            connection = await self.connect(proxy.admin)
            response = await connection.post("/debug/explain", body, headers)
            self.assertEqual(response.status, 200, response.body)
            return b"holds 5 of 5 blocks" in response.body
        await self.stream(proxy, body, headers=[("X-Tenant", "acme")])
        self.assertTrue(await held_by(("x-tenant", "acme")))
        self.assertFalse(await held_by())
        await self.stream(proxy, body)
        self.assertTrue(await held_by())
        self.assertFalse(await held_by(("x-tenant", "bolt")))

    async def test_the_log_has_predictions_and_what_came(self):
        proxy = await self.proxy(await self.emulated())
        for _ in range(2):
            await self.stream(proxy, chat("the same again " * 300, model="emulated"))
        line = (await proxy.access_log(2))[-1]
        for key in ("score", "in_flight", "predicted_prefill_ms", "prefill_ms", "predicted_cached_tokens", "cached_tokens"):
            self.assertIn(key, line)
        samples = await proxy.metrics()
        counted = [v for k, v in samples.items() if "hit_ratio_prediction_error_count" in k]
        self.assertEqual(counted, [2], samples)


class Live(Case):
    async def until_said(self, proxy, text):
        async def said():
            return any(text in line for line in proxy.err)
        await proxy.until(said, text)

    async def test_a_healthy_engine_has_no_finding(self):
        proxy = await self.proxy(await self.emulated())
        code, out, err = await run("check", "--live", proxy.file)
        self.assertEqual(code, 0, out + err)
        self.assertIn("1 endpoint asked, 0 findings", out)

    async def test_a_dead_engine_is_named(self):
        engine = await self.emulated()
        proxy = await self.proxy(engine)
        await engine.kill()
        code, out, err = await run("check", "--live", proxy.file)
        self.assertEqual(code, 1, out + err)
        self.assertIn("it does not answer its health path", out)


    async def test_an_engine_that_does_not_tell_cached_tokens_is_named_once(self):
        engine = await self.emulated("--no-prompt-tokens-details")
        proxy = await self.proxy(engine)
        code, out, err = await run("check", "--live", proxy.file)
        self.assertEqual(code, 0, out + err)
        self.assertIn("its answers do not tell cached_tokens; start the engine with", out)

        # At the start nobody can know it; the switch is named, and where to ask. The first repeat shows it.
        def said(text):
            return sum(text in line for line in proxy.err)
        await self.until_said(proxy, "is vLLM, which does not show whether it has --enable-prompt-tokens-details")
        repeat = chat("the same again " * 300, model="emulated", max_tokens=2)
        await self.stream(proxy, repeat)
        self.assertEqual(said("do not tell cached_tokens"), 0, proxy.text())
        await self.stream(proxy, repeat)
        await self.until_said(proxy, "do not tell cached_tokens; start the engine with --enable-prompt-tokens-details")
        for _ in range(8):
            await self.stream(proxy, repeat)
        self.assertEqual(said("do not tell cached_tokens"), 1, proxy.text())
        self.assertEqual(said("does not show whether"), 1, proxy.text())

    async def test_an_engine_that_tells_is_not_warned_of(self):
        engine = await self.emulated()
        proxy = await self.proxy(engine)
        for _ in range(3):
            await self.stream(proxy, chat("the same again " * 300, model="emulated", max_tokens=2))
        # Its counter of hits is read again before the end.
        ages = []

        async def scraped_again():
            samples = await proxy.metrics()
            ages.append(next(v for k, v in samples.items() if "endpoint_scrape_age_seconds" in k))
            return ages[-1] < max(ages)
        await proxy.until(scraped_again, "a scrape after the repeats")
        self.assertFalse(any("cached_tokens; start" in line for line in proxy.err), proxy.text())

    async def test_sglang_says_at_the_start_how_it_was_started(self):
        mute = await self.fake(owned_by="sglang", server_info={"tp_size": 1, "enable_cache_report": False})
        told = await self.fake(owned_by="sglang", server_info={"tp_size": 1, "enable_cache_report": True})
        proxy = await self.proxy(mute, told)
        warning = f"endpoint {mute.url}: its answers do not tell cached_tokens; start the engine with --enable-cache-report"
        await self.until_said(proxy, warning)

        async def other_asked():
            return any(target == "/get_server_info" for target, _ in told.probes)
        await proxy.until(other_asked, "the other engine is asked")
        # No engine was given anything to generate for it.
        self.assertEqual(mute.calls + told.calls, [])
        self.assertEqual(sum("do not tell cached_tokens" in line for line in proxy.err), 1, proxy.text())
        self.assertEqual([target for target, _ in mute.probes].count("/get_server_info"), 1)


class Tenants(Case):
    async def test_a_tenants_salt_reaches_the_engine_and_stays_the_same(self):
        engine = await self.fake()
        proxy = await self.proxy(engine, routing={"tenant_salt": "header:x-tenant-id"})
        for tenant, own in (("acme", None), ("bolt", None), ("acme", None), (None, None), ("acme", "mine")):
            await self.stream(proxy, chat(**({"cache_salt": own} if own else {})),
                              headers=[("X-Tenant-Id", tenant)] if tenant else [])
        salts = [call.json()["cache_salt"] for call in engine.calls]
        self.assertEqual(salts[0], salts[2])
        self.assertEqual(len({salts[0], salts[1], salts[3], salts[4]}), 4, salts)
        self.assertNotIn("mine", salts)
        for call in engine.calls:
            self.assertEqual(call.json()["messages"], chat()["messages"])
            self.assertEqual(call.json()["stream_options"], {"include_usage": True})

    async def test_without_the_setting_the_clients_salt_passes(self):
        engine = await self.fake()
        proxy = await self.proxy(engine)
        await self.stream(proxy, chat(cache_salt="mine"), headers=[("X-Tenant-Id", "acme")])
        await self.stream(proxy, chat())
        self.assertEqual(engine.calls[0].json()["cache_salt"], "mine")
        self.assertNotIn("cache_salt", engine.calls[1].json())


class Demo(Case):
    async def begun(self, *options):
        """The running demo and the curl command that it prints."""
        demo = await Process("demo", *options, "--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}").start()
        self.addAsyncCleanup(demo.kill)
        await demo.wait_line(lambda line: "Ctrl-C" in line)
        lines = [line.strip() for line in demo.out]
        first = next(i for i, line in enumerate(lines) if line.startswith("curl "))
        last = next(i for i in range(first, len(lines)) if not lines[i].endswith("\\"))
        return demo, "\n".join(lines[first:last + 1])

    async def test_the_printed_command_works(self):
        demo, command = await self.begun()
        child = await asyncio.create_subprocess_exec("/bin/bash", "-c", command, stdout=asyncio.subprocess.PIPE,
                                                     stderr=asyncio.subprocess.DEVNULL)
        out, _ = await child.communicate()
        self.assertEqual(child.returncode, 0)
        self.assertTrue(out.endswith(b"data: [DONE]\n\n"), out)
        demo.signal(signal.SIGTERM)
        self.assertEqual(await demo.exit_code(), 0)

    async def test_the_fleet_is_two_engines(self):
        demo, command = await self.begun()
        connection = await self.connect(re.search(r"http://([\w.:]+)/", command).group(1))

        async def models():
            return (await connection.request("GET", "/v1/models")).json()["data"]
        await demo.until(models, "the engines told their models")
        model = (await models())[0]["id"]
        homes = set()
        for i in range(40):
            response = await connection.start(CHAT, chat(f"{i} " + "w" * 3000, model=model, max_tokens=5))
            self.assertTrue(text_of([e async for e in connection.events(response)]))
            homes.add(response.header("x-penstock-endpoint"))
        self.assertEqual(len(homes), 2)
        self.assertTrue(demo.running)

    async def test_disaggregated(self):
        demo, command = await self.begun("--disaggregated")
        heads, usages = [], []
        for _ in range(2):
            child = await asyncio.create_subprocess_exec("/bin/bash", "-c", command, stdout=asyncio.subprocess.PIPE)
            out, _ = await child.communicate()
            self.assertEqual(child.returncode, 0)
            head, _, events = out.decode().partition("\r\n\r\n")
            self.assertTrue(events.endswith("data: [DONE]\n\n"), events)
            heads.append(dict(line.split(": ", 1) for line in head.split("\r\n")[1:]))
            usages.append(json.loads(re.findall(r"data: (.*)", events)[-2])["usage"])
        first, again = heads
        self.assertNotEqual(first["x-penstock-endpoint"], first["x-penstock-prefill-endpoint"])
        self.assertRegex(first["x-penstock-reason"], "^prefix .*, split long_prompt$")
        # The decode engine has the prompt now, and says so.
        self.assertEqual(again["x-penstock-endpoint"], first["x-penstock-endpoint"])
        self.assertEqual(again["x-penstock-reason"], "prefix holds_prefix, split short_prompt")
        self.assertNotIn("x-penstock-prefill-endpoint", again)
        cached = [u["prompt_tokens_details"]["cached_tokens"] for u in usages]
        self.assertEqual(cached[0], 0)
        self.assertGreater(cached[1], 500)
        connection = await self.connect(re.search(r"http://([\w.:]+)/", command).group(1))
        response = await connection.start(CHAT, chat("Hello", model="demo", max_tokens=5))
        self.assertTrue(text_of([e async for e in connection.events(response)]))
        self.assertIsNone(response.header("x-penstock-prefill-endpoint"))
        self.assertTrue(demo.running)


class Transcripts(Case):
    """What README shows of the demo is what the demo says, but for the ports of its engines."""

    def shown(self, after):
        """The first console block behind these words: (commands as a shell takes them, what they said)."""
        with open(os.path.join(os.path.dirname(__file__), "../../README.md"), encoding="utf-8") as f:
            lines = f.read().partition(after)[2].partition("```\n")[2].partition("```\n")[0].splitlines()
        commands, said = [], []
        for line in lines:
            if line.startswith("$ "):
                commands.append(line[2:])
            elif line.startswith("  "):
                commands[-1] += "\n" + line
            else:
                said.append(line)
        self.assertTrue(commands and said, after)
        return commands, said

    @staticmethod
    def named(lines):
        """Addresses by the order in which they appear."""
        seen = []

        def name(match):
            if match.group() not in seen:
                seen.append(match.group())
            return f"engine {seen.index(match.group())}"
        return [re.sub(r"http://127\.0\.0\.1:\d+", name, line) for line in lines]

    async def replay(self, after, *options):
        commands, said = self.shown(after)
        port, admin = free_port(), free_port()
        demo = await Process("demo", *options, "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}").start()
        self.addAsyncCleanup(demo.kill)
        await demo.wait_line(lambda line: "Ctrl-C" in line)
        script = "\n".join(["URL=http://127.0.0.1:23080/v1/chat/completions", *commands])
        script = script.replace("127.0.0.1:23080", f"127.0.0.1:{port}").replace("127.0.0.1:23090", f"127.0.0.1:{admin}")
        child = await asyncio.create_subprocess_exec("/bin/bash", "-c", script, stdout=asyncio.subprocess.PIPE)
        out, _ = await child.communicate()
        self.assertEqual(self.named(out.decode().splitlines()), self.named(said))

    async def test_a_conversation(self):
        await self.replay("A conversation's second turn goes to the engine that holds the first")

    async def test_two_engines_for_one_request(self):
        await self.replay("penstock demo --disaggregated --listen 127.0.0.1:23080", "--disaggregated")


if __name__ == "__main__":
    unittest.main()
