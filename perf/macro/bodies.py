"""Request bodies of given sizes, as OpenAI's Python client would write them."""

import json
import random

MARK = "@" * 12  # bench_peer writes the request's number here
VARIANTS = 8     # conversations that take turns; all share the system prompt

WORDS = (
    "the model context window of a request holds what was said before and each token that follows "
    "depends on it so a cache keeps keys and values for prefixes that return with every turn while "
    "engines schedule prefill and decode in one batch under load naïve queues grow Größe mañana 東京 "
    "résumé latency budget scheduler endpoint stream chunk answer question document paragraph"
).split()

PIECES = (
    "\n\n## Notes\n\n- {a}\n- {b}\n",
    "\n```python\ndef step(batch):\n\treturn {{\"tokens\": [t + 1 for t in batch], \"why\": \"{a}\"}}\n```\n",
    "\n> \"{a}\" — {b}…\n",
    "\nC:\\models\\{a}\n",
    " {a}. {b}. ",
    " {a}, {b}; ",
)


def prose(rng, size):
    """Text whose JSON form has about `size` bytes."""
    out, have = [], 0
    while have < size:
        a = " ".join(rng.choices(WORDS, k=9))
        b = " ".join(rng.choices(WORDS, k=12))
        piece = rng.choice(PIECES).format(a=a, b=b)
        out.append(piece)
        have += len(encode(piece)) - 2
    return "".join(out)


def encode(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def body(variant, size, stream):
    """One body of exactly `size` bytes."""
    system = prose(random.Random(1), min(size // 4, 40_000))
    rng = random.Random(1000 + variant)
    messages = [{"role": "system", "content": system}]
    turn = max(200, min(size // 8, 6_000))
    roles = ("user", "assistant")
    while len(encode(messages)) + 2 * turn + 600 < size:
        messages.append({"role": roles[(len(messages) - 1) % 2], "content": prose(rng, turn)})
    if len(messages) % 2 == 0:
        messages.append({"role": "assistant", "content": "Understood."})
    last = {"role": "user", "content": f"Question {MARK}: "}
    messages.append(last)
    request = {"messages": messages, "model": "bench", "max_tokens": 256, "temperature": 0.7}
    if stream:
        request["stream"] = True
    missing = size - len(encode(request))
    text = prose(rng, missing)
    while len(encode(text)) - 2 > missing:
        text = text[:-1]
    last["content"] += text + "." * (missing - len(encode(text)) + 2)
    assert len(encode(request)) == size
    return encode(request)


def write(path, size, stream):
    with open(path, "wb") as f:
        for variant in range(VARIANTS):
            f.write(body(variant, size, stream) + b"\n")
