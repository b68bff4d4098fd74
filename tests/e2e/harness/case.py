"""The test case: starts what a test asks for and sees that everything ended well."""
import asyncio
import functools
import signal
import unittest

from .engine import FakeEngine, well_behaved
from .process import SLOW, Engine, Proxy
from .wire import Connection, text_of

TEST_SECONDS = 60


def _limited(test):
    @functools.wraps(test)
    async def run(self):
        await asyncio.wait_for(test(self), TEST_SECONDS * SLOW)
    return run


class Case(unittest.IsolatedAsyncioTestCase):
    maxDiff = 4000
    proxy_settings = {}  # of every proxy of a class

    def __init_subclass__(cls, **more):
        super().__init_subclass__(**more)
        for name, member in list(vars(cls).items()):
            if name.startswith("test") and asyncio.iscoroutinefunction(member):
                setattr(cls, name, _limited(member))

    async def fake(self, script=well_behaved, **more):
        engine = await FakeEngine(script, **more).start()

        async def stop():
            await engine.stop()
            self.assertEqual(engine.failures, [], "a script of this test failed")
        self.addAsyncCleanup(stop)
        return engine

    async def emulated(self, *arguments):
        engine = await Engine(*arguments).start()
        self.addAsyncCleanup(engine.kill)
        return engine

    async def proxy(self, *engines, expect_exit=0, **settings):
        """A serving proxy. At the end of the test it is stopped and must have drained well."""
        proxy = await Proxy([getattr(e, "url", e) for e in engines], **{**self.proxy_settings, **settings}).start()

        async def stop():
            if proxy.running:
                proxy.signal(signal.SIGTERM)
            code = await proxy.exit_code()
            proxy.folder.cleanup()
            noise = [line for line in proxy.err if "Sanitizer" in line or "runtime error" in line]
            self.assertEqual(noise, [], proxy.text())
            self.assertEqual(code, expect_exit, proxy.text())
        self.addAsyncCleanup(stop)
        return proxy

    async def connect(self, proxy, **more):
        connection = await Connection.open(getattr(proxy, "address", proxy), **more)
        self.addCleanup(connection.close)
        return connection

    async def post(self, proxy, target, body, headers=()):
        """One POST on a connection of its own."""
        connection = await self.connect(proxy)
        try:
            return await connection.post(target, body, headers)
        finally:
            connection.close()

    async def get(self, proxy, target, headers=()):
        connection = await self.connect(proxy)
        try:
            return await connection.request("GET", target, headers=headers)
        finally:
            connection.close()

    async def stream(self, proxy, body, target="/v1/chat/completions", headers=()):
        """A whole stream on a connection of its own: (response, events)."""
        connection = await self.connect(proxy)
        try:
            response = await connection.start(target, body, headers)
            return response, [event async for event in connection.events(response)]
        finally:
            connection.close()

    def assert_whole(self, events, text=None):
        """A chat stream that ended with its marker, once, and without an error."""
        self.assertEqual(events[-1], b"data: [DONE]\n\n")
        self.assertEqual(events.count(b"data: [DONE]\n\n"), 1)
        self.assertFalse([e for e in events if b'"error"' in e])
        if text is not None:
            self.assertEqual(text_of(events), text)

    def assert_error(self, response, status, code, param=None):
        self.assertEqual(response.status, status, response.body)
        error = response.error()
        self.assertEqual(error["code"], code)
        self.assertEqual(error["param"], param)
        self.assertTrue(error["message"])
        self.assertIn("type", error)
        self.assertTrue(response.header("x-request-id"))
