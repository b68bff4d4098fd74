"""A fixed trace through a real vLLM with little KV memory, and through the emulated engine: the same cached tokens?"""
import asyncio
import random
import unittest

from harness.case import Case
from real_engine import PARTS, RealEngine

BLOCKS, BLOCK = 256, 32  # 8,192 tokens: what the trace reuses does not all fit
SIDE_BY_SIDE = 4


def trace():
    """(how many are asked at once, their bodies), token by token, so that both engines count alike: conversations that grow, system
    prompts that some share (the first ones most), and prompts that nobody shares."""
    draw = random.Random(20261125)

    def tokens(least, most):
        return [draw.randrange(300, 4000) for _ in range(draw.randint(least, most))]
    systems = [tokens(100, 700) for _ in range(8)]
    popular = [1 / (i + 1) for i in range(len(systems))]
    talks, waves = [], []

    def prompt():
        kind = draw.random()
        if kind < 0.15:
            return tokens(50, 900)
        if kind < 0.5 or not talks:
            talks.append(draw.choices(systems, popular)[0] + tokens(20, 200))
        else:
            talks.append(talks.pop(draw.randrange(max(0, len(talks) - 12), len(talks))) + tokens(40, 250))
            if len(talks[-1]) > 2500:
                return talks.pop()
        return talks[-1]
    for _ in range(150):
        waves.append((1, [prompt()]))
    for _ in range(25):
        waves.append((SIDE_BY_SIDE, [prompt() for _ in range(SIDE_BY_SIDE)]))
    return [[{"model": "tiny", "prompt": p, "max_tokens": draw.randint(1, 40), "ignore_eos": True, "temperature": 0} for p in prompts]
            for _, prompts in waves]


@unittest.skipUnless("vllm" in PARTS, "vLLM is not asked for")
class Replay(Case):
    async def cached(self, ask):
        """`cached_tokens` of each answer."""
        found = []
        for wave in trace():
            answers = await asyncio.gather(*(asyncio.to_thread(ask, "/v1/completions", body) for body in wave))
            found += [(a["usage"].get("prompt_tokens_details") or {}).get("cached_tokens") or 0 for a in answers]
        return found

    async def test_the_emulated_engine_caches_as_vllm_does(self):
        real = RealEngine("vllm", blocks=BLOCKS).start()
        self.addCleanup(real.kill)
        await asyncio.to_thread(real.wait)
        emulated = await self.emulated("--model", "tiny", "--class", "instant", "--block-size", str(BLOCK), "--kv-tokens", str(BLOCKS * BLOCK),
                                       "--max-num-seqs", "16", "--max-model-len", "4096")
        seen = await self.cached(real.ask)
        modelled = await self.cached(lambda path, body: real.ask(path, body, f"http://{emulated.address}"))
        lengths = [len(body["prompt"]) for wave in trace() for body in wave]
        reusable = sum(seen)
        self.assertGreater(reusable, 0.2 * sum(lengths), "the trace reuses little: nothing is shown")
        self.assertLess(reusable, 0.7 * sum(lengths), "all fits: nothing is shown about forgetting")
        differ = [(i, n, a, b) for i, (n, a, b) in enumerate(zip(lengths, seen, modelled)) if a != b]
        print(f"{len(seen) - len(differ)} of {len(seen)} alike; cached {sum(seen)} and {sum(modelled)} of {sum(lengths)} tokens", flush=True)
        self.assertLessEqual(len(differ), 0.05 * len(seen), f"(request, prompt, vLLM, emulated): {differ}")
