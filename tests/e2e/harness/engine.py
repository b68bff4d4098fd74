"""An engine whose every byte and every fault a test can script.

Probes, scrapes and GET /v1/models are answered by the engine itself; each other request becomes a `Call` that
is given to the script (an async function). The engine sees at once when its client closes: `call.left`.
"""
import asyncio
import json
import socket
import struct
import time

METRICS = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="{model}"}} {running}
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="{model}"}} 0.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="0",model_name="{model}"}} 0.01
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{{block_size="16",engine="0",num_gpu_blocks="4096"}} 1.0
"""


class Call:
    """One request to the engine, and the means to answer it."""

    def __init__(self, peer, method, target, headers, body):
        self.peer, self.method, self.target, self.headers, self.body = peer, method, target, headers, body
        self.left = peer.left        # asyncio.Event: the client closed its side

    @property
    def left_at(self):
        """time.monotonic() when the client closed, or None."""
        return self.peer.left_at

    def header(self, name):
        found = [v for n, v in self.headers if n.lower() == name.lower()]
        assert len(found) < 2, f"{name} occurs {len(found)} times"
        return found[0] if found else None

    def json(self):
        return json.loads(self.body)

    async def raw(self, data):
        self.peer.writer.write(data)
        await self.peer.writer.drain()

    async def answer(self, status=200, body=b"{}", headers=()):
        """A whole answer with a length."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} Whatever", "content-type: application/json", f"content-length: {len(body)}"]
        lines += [f"{n}: {v}" for n, v in headers]
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def head(self, status=200, content_type="text/event-stream; charset=utf-8", headers=()):
        """The head of a chunked answer."""
        lines = [f"HTTP/1.1 {status} OK", f"content-type: {content_type}", "transfer-encoding: chunked"]
        lines += [f"{n}: {v}" for n, v in headers]
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def chunk(self, data):
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, data, name=None):
        text = data if isinstance(data, str) else json.dumps(data)
        await self.chunk((f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode())

    async def role(self):
        await self.event(chunk_of({"role": "assistant", "content": ""}))

    async def content(self, text):
        await self.event(chunk_of({"content": text}))

    async def finish(self, prompt_tokens=10, completion_tokens=3, cached=0):
        """finish_reason, the usage chunk if it was asked for, [DONE] and the last chunk."""
        await self.event(chunk_of({}, "stop"))
        if (self.json().get("stream_options") or {}).get("include_usage"):
            await self.event({"id": "c-1", "object": "chat.completion.chunk", "model": "tiny", "choices": [],
                              "usage": usage(prompt_tokens, completion_tokens, cached)})
        await self.event("[DONE]")
        await self.end()

    async def end(self):
        await self.raw(b"0\r\n\r\n")

    async def stream(self, words=("one", " two", " three")):
        """A whole well-behaved stream."""
        await self.head()
        await self.role()
        for word in words:
            await self.content(word)
        await self.finish(completion_tokens=len(words))

    def close(self):
        """FIN after what was written."""
        self.peer.keep = False
        self.peer.writer.close()

    def reset(self):
        """RST; what the kernel still held is lost."""
        self.peer.keep = False
        sock = self.peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.writer.transport.abort()


def chunk_of(delta, finish=None):
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def usage(prompt_tokens, completion_tokens, cached=0):
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens, "prompt_tokens_details": {"cached_tokens": cached}}


async def well_behaved(call):
    """What an engine does when nothing is wrong."""
    if call.json().get("stream"):
        await call.stream()
    else:
        await call.answer(body={"id": "c-1", "object": "chat.completion", "model": "tiny",
                                "choices": [{"index": 0, "finish_reason": "stop",
                                             "message": {"role": "assistant", "content": "one two three"}}],
                                "usage": usage(10, 3)})


class _Peer:
    """One connection from the proxy. A pump reads ahead, so that a close is seen while an answer is written."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.buffer, self.more, self.left = bytearray(), asyncio.Event(), asyncio.Event()
        self.left_at, self.keep = None, True
        self.pump = asyncio.ensure_future(self._pump())

    async def _pump(self):
        try:
            while data := await self.reader.read(1 << 16):
                self.buffer += data
                self.more.set()
        except (ConnectionError, OSError):
            pass
        self.left_at = time.monotonic()
        self.left.set()
        self.more.set()

    async def until(self, done):
        while not done():
            if self.left.is_set():
                return False
            self.more.clear()
            await self.more.wait()
        return True

    async def take(self, n):
        if not await self.until(lambda: len(self.buffer) >= n):
            return None
        data = bytes(self.buffer[:n])
        del self.buffer[:n]
        return data

    async def take_until(self, mark):
        if not await self.until(lambda: mark in self.buffer):
            return None
        return await self.take(self.buffer.index(mark) + len(mark))


class FakeEngine:
    def __init__(self, script=well_behaved, model="tiny", owned_by="vllm", server_info=None):
        self.script, self.model, self.owned_by, self.server_info = script, model, owned_by, server_info
        self.calls = []              # every Call, in order
        self.connections = 0         # accepted since the start
        self.probes = []             # (target, headers) of what the engine answered itself
        self.healthy = True
        self.running = 0
        self._peers, self._tasks, self._server, self._arrived = set(), set(), None, asyncio.Event()
        self.failures = []           # exceptions of scripts other than a lost connection

    async def start(self, path=None):
        if path:
            self._server = await asyncio.start_unix_server(self._serve, path)
            self.url = f"unix:{path}"
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096)
            self.port = self._server.sockets[0].getsockname()[1]
            self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def stop(self):
        """Closes the listener and every connection."""
        self._server.close()
        for peer in list(self._peers):
            peer.keep = False
            peer.pump.cancel()
            peer.writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def call(self, index=0):
        """The call number `index`, as soon as it came."""
        while len(self.calls) <= index:
            self._arrived.clear()
            await self._arrived.wait()
        return self.calls[index]

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        peer = _Peer(reader, writer)
        self._peers.add(peer)
        try:
            while peer.keep and (call := await self._read(peer)):
                if call.method == "GET":
                    await self._own(call)
                    continue
                self.calls.append(call)
                self._arrived.set()
                self.running += 1
                try:
                    await self.script(call)
                finally:
                    self.running -= 1
        except (ConnectionError, OSError):
            pass
        except asyncio.CancelledError:
            pass
        except Exception as e:  # a fault of the test itself: shown by the test case
            self.failures.append(e)
        finally:
            peer.pump.cancel()
            writer.close()
            self._peers.discard(peer)
            self._tasks.discard(asyncio.current_task())

    async def _read(self, peer):
        raw = await peer.take_until(b"\r\n\r\n")
        if raw is None:
            return None
        first, *rest = raw.decode("latin-1")[:-4].split("\r\n")
        method, target, _ = first.split(" ")
        headers = [(n, v.strip()) for n, _, v in (line.partition(":") for line in rest)]
        small = {n.lower(): v for n, v in headers}
        body = b""
        if "content-length" in small:
            body = await peer.take(int(small["content-length"]))
        elif small.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await peer.take_until(b"\r\n") or b"0"), 16):
                body += (await peer.take(size + 2) or b"  ")[:-2]
            await peer.take(2)
        return None if body is None else Call(peer, method, target, headers, body)

    async def _own(self, call):
        self.probes.append((call.target, call.headers))
        if call.target == "/metrics":
            text = METRICS.format(model=self.model, running=float(self.running))
            await call.answer(body=text.encode(), headers=[("x-kind", "metrics")])
        elif call.target == "/v1/models":
            await call.answer(body={"object": "list", "data": [{"id": self.model, "object": "model", "created": 1,
                                                                "owned_by": self.owned_by, "root": self.model,
                                                                "max_model_len": 4096}]})
        elif call.target == "/get_server_info" and self.server_info is not None:
            await call.answer(body=self.server_info)
        elif call.target.endswith("/health"):
            await call.answer(200 if self.healthy else 503, b"")
        else:
            await call.answer(404, {"error": {"message": "no such path"}})
