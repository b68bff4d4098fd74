"""What the tests rely on, seen at the engines themselves, without Penstock."""
import unittest

from real_engine import PARTS, RealEngine

CHAT = "/v1/chat/completions"


class Direct(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.engines = [RealEngine(kind).start() for kind in PARTS]
        for engine in cls.engines:
            cls.addClassCleanup(engine.kill)
        for engine in cls.engines:
            engine.wait()

    def test_greedy_is_deterministic_and_cached(self):
        texts = set()
        body = {"model": "tiny", "temperature": 0, "max_tokens": 16, "messages": [{"role": "user", "content": "license terms " * 60}]}
        for engine in self.engines:
            first, second = engine.ask(CHAT, body), engine.ask(CHAT, body)
            texts |= {first["choices"][0]["message"]["content"], second["choices"][0]["message"]["content"]}
            self.assertGreater(second["usage"]["prompt_tokens_details"]["cached_tokens"], 64)
        self.assertEqual(len(texts), 1, "every engine gives the same greedy text")


if __name__ == "__main__":
    unittest.main()
