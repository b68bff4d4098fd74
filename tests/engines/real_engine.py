"""Real engines as processes, and direct questions to them."""
import json
import os
import socket
import subprocess
import time
import urllib.request

CACHE = os.environ.get("PENSTOCK_ENGINES", os.path.expanduser("~/.cache/penstock-engines"))
PARTS = os.environ.get("ENGINES_PARTS", "vllm llama").split()

# Probes each second, with as much time for an answer. Each 100 ms, as emulated engines are asked, a real one on a crowded CPU
# misses some: then it is rightly suspect, and conversations move.
SETTINGS = {"health": {"interval": "1s", "scrape_interval": "1s"}}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class RealEngine:
    """`role` (prefill, decode): a vLLM that hands KV blocks on by NIXL, over loopback and host memory. `policy` (fail, recompute): what
    a decode engine does about blocks that it cannot fetch. `blocks`: of 32 tokens, all the KV memory that a vLLM gets."""

    def __init__(self, kind, role=None, policy="fail", blocks=None):
        self.kind, self.port, self.role, self.policy, self.blocks = kind, free_port(), role, policy, blocks
        self.address, self.url = f"127.0.0.1:{self.port}", f"http://127.0.0.1:{self.port}"
        self.log = os.path.join(CACHE, f"{kind}-{self.port}.log")

    def start(self):
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(self._command(), env={**os.environ, **self._environment()}, stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=subprocess.STDOUT, start_new_session=True)
        return self

    def _command(self):
        port = ["--host", "127.0.0.1", "--port", str(self.port)]
        if self.kind == "llama":
            return [f"{CACHE}/penstock-llama/llama-server", "-m", f"{CACHE}/model/tiny.gguf", "--alias", "tiny", *port, "-c", "16384", "-np", "2",
                    "-t", "1", "-tb", "1", "--metrics", "--jinja"]
        return [f"{CACHE}/penstock-vllm/bin/vllm", "serve", f"{CACHE}/model/hf", "--served-model-name", "tiny", *port, "--max-model-len", "4096" if self.blocks else "8192",
                "--max-num-seqs", "16", "--block-size", "32", "--dtype", "bfloat16", "--enforce-eager", "--enable-prefix-caching",
                "--enable-prompt-tokens-details", *self._memory(), *self._hand_off()]

    def _memory(self):
        return [] if self.blocks is None else ["--num-gpu-blocks-override", str(self.blocks)]

    def _hand_off(self):
        if self.role is None:
            return []
        how = {"kv_connector": "NixlConnector", "kv_role": {"prefill": "kv_producer", "decode": "kv_consumer"}[self.role],
               "kv_buffer_device": "cpu", "kv_load_failure_policy": self.policy, "kv_connector_extra_config": {"num_threads": 0}}
        return ["--kv-transfer-config", json.dumps(how)]

    def _environment(self):
        side = {"VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1", "VLLM_NIXL_SIDE_CHANNEL_PORT": str(free_port()), "UCX_NET_DEVICES": "lo",
                "UCX_TLS": "tcp,self,sm"} if self.role else {}
        # One thread each: two engines and the proxy share two cores. Nothing is looked up outside.
        return {**side, "VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "TORCHDYNAMO_DISABLE": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
                "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0"}

    def wait(self, seconds=300):
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(self.url + "/health", timeout=5) as response:
                    if response.status == 200:
                        return self
            except OSError:
                pass
            if self.child.poll() is not None or time.monotonic() > deadline:
                with open(self.log, encoding="utf-8", errors="replace") as log:
                    raise AssertionError(f"{self.kind} does not serve:\n{log.read()[-3000:]}")
            time.sleep(0.2)

    def kill(self):
        """kill -9 of the engine and of every process that it started."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, 9)
            self.child.wait()

    def metrics(self):
        with urllib.request.urlopen(self.url + "/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and not line.startswith("#")}

    def metric(self, name):
        """The sum over a metric's series."""
        return sum(v for k, v in self.metrics().items() if k.split("{")[0] == name)

    def running(self):
        return self.metric("vllm:num_requests_running" if self.kind == "vllm" else "llamacpp:requests_processing")

    def until_running(self, count, seconds=30):
        deadline = time.monotonic() + seconds
        while self.running() != count:
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.kind} runs {self.running()} requests, not {count}")
            time.sleep(0.02)

    def ask(self, path, body, url=None):
        """A JSON POST to the engine, or to `url` in its place."""
        request = urllib.request.Request((url or self.url) + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.loads(response.read())
