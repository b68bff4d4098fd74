"""An HTTP/1.1 client that hides nothing: what it sends is what was written, what it reads it checks.

A cut answer raises `Cut`, wrong framing raises `BadWire`; a test that expects neither fails on both.
"""
import asyncio
import json
import socket
import struct


class Cut(Exception):
    """The connection ended before the message did."""


class BadWire(Exception):
    """The bytes are not HTTP/1.1 as we would write it."""


class Response:
    def __init__(self, status, version, headers):
        self.status, self.version, self.headers, self.body = status, version, headers, b""

    def header(self, name):
        found = [v for n, v in self.headers if n.lower() == name.lower()]
        if len(found) > 1:
            raise BadWire(f"{name} occurs {len(found)} times")
        return found[0] if found else None

    def json(self):
        return json.loads(self.body)

    def error(self):
        """The members of an OpenAI-shaped error."""
        return self.json()["error"]


class Connection:
    """One connection to `address` ("host:port" or "unix:/path")."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, address, receive_buffer=None):
        limit = 1 << 20
        if address.startswith("unix:"):
            return cls(*await asyncio.open_unix_connection(address[5:], limit=limit))
        host, port = address.rsplit(":", 1)
        if receive_buffer is None:
            return cls(*await asyncio.open_connection(host.strip("[]"), int(port), limit=limit))
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        return cls(*await asyncio.open_connection(sock=sock, limit=4096))

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def send_slowly(self, data, piece=1):
        """In pieces that the peer most likely receives one by one."""
        sock = self.writer.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(0, len(data), piece):
            await self.send(data[i:i + piece])
            await asyncio.sleep(0)

    async def head(self):
        """The next response head, 1xx included."""
        try:
            raw = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as e:
            raise Cut(f"no response head, but {e.partial!r}") from None
        except ConnectionError as e:
            raise Cut(f"no response head: {e}") from None
        if b"\n" in raw.replace(b"\r\n", b""):
            raise BadWire(f"bare LF in {raw!r}")
        first, *rest = raw.decode("latin-1")[:-4].split("\r\n")
        version, status, _ = (first + " ").split(" ", 2)
        headers = []
        for line in rest:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise BadWire(f"header line {line!r}")
            headers.append((name, value.strip()))
        return Response(int(status), version, headers)

    async def pieces(self, response):
        """The body, one piece per chunk or read."""
        if response.status in (204, 304) or response.status < 200:
            return
        coding, length = response.header("transfer-encoding"), response.header("content-length")
        if coding and length:
            raise BadWire("both Content-Length and Transfer-Encoding")
        try:
            if coding:
                if coding.lower() != "chunked":
                    raise BadWire(coding)
                while True:
                    line = await self.reader.readuntil(b"\r\n")
                    size = int(line[:-2], 16)
                    data = await self.reader.readexactly(size)
                    if await self.reader.readexactly(2) != b"\r\n":
                        raise BadWire("a chunk without its CRLF")
                    if size == 0:
                        return
                    yield data
            elif length is not None:
                left = int(length)
                while left:
                    data = await self.reader.read(min(left, 65536))
                    if not data:
                        raise Cut(f"{left} bytes of the body are missing")
                    left -= len(data)
                    yield data
            else:
                while data := await self.reader.read(65536):
                    yield data
        except asyncio.IncompleteReadError as e:
            raise Cut(f"inside the body, after {e.partial!r}") from None
        except ConnectionError as e:
            raise Cut(str(e)) from None

    async def events(self, response):
        """Whole SSE events with their blank line. Bytes after the last one raise BadWire."""
        kept = b""
        async for data in self.pieces(response):
            kept += data
            while (end := kept.find(b"\n\n")) >= 0:
                yield kept[:end + 2]
                kept = kept[end + 2:]
        if kept:
            raise BadWire(f"part of an event: {kept!r}")

    async def response(self, head_request=False):
        """The next final response with its body."""
        response = await self.head()
        while response.status < 200:
            response = await self.head()
        if not head_request:
            response.body = b"".join([piece async for piece in self.pieces(response)])
        return response

    async def request(self, method, target, body=None, headers=()):
        await self.send(request_bytes(method, target, body, headers))
        return await self.response(method == "HEAD")

    async def post(self, target, body, headers=()):
        return await self.request("POST", target, body, headers)

    async def start(self, target, body, headers=()):
        """Sends a POST and returns the response's head; the body is read with events() or pieces()."""
        await self.send(request_bytes("POST", target, body, headers))
        return await self.head()

    async def closed(self):
        """True when the peer closed and nothing is left to read; waits for that."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def half_close(self):
        self.writer.write_eof()

    def close(self):
        self.writer.close()

    def reset(self):
        """Leaves with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def request_bytes(method, target, body=None, headers=()):
    """A request; a body that is no bytes is sent as JSON. Headers given replace those made here."""
    given = {name.lower() for name, _ in headers}
    lines = [f"{method} {target} HTTP/1.1"]
    if "host" not in given:
        lines.append("Host: penstock.test")
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    if body is not None:
        if "content-type" not in given:
            lines.append("Content-Type: application/json")
        if not given & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def chunked(data, sizes=(7,)):
    """`data` in chunks of the given sizes, in turn."""
    out, at, i = b"", 0, 0
    while at < len(data):
        piece = data[at:at + sizes[i % len(sizes)]]
        out += b"%x\r\n%s\r\n" % (len(piece), piece)
        at, i = at + len(piece), i + 1
    return out + b"0\r\n\r\n"


def data_of(event):
    """The JSON of an SSE event's data, "[DONE]" as that string, None for a comment."""
    lines = [line[5:].strip() for line in event.decode().split("\n") if line.startswith("data:")]
    if not lines:
        return None
    text = "\n".join(lines)
    return text if text == "[DONE]" else json.loads(text)


def chat(content="hello", stream=True, **more):
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], "stream": stream, **more}


def text_of(events):
    """The text that a chat stream's events carry together."""
    out = ""
    for event in events:
        data = data_of(event)
        if isinstance(data, dict) and data.get("choices"):
            out += data["choices"][0].get("delta", {}).get("content") or ""
    return out
