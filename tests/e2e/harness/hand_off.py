"""The proxy's part of a hand-off, played by hand: what each connector's legs look like."""
import json

from .wire import chat


def body_of(text, max_tokens=24, **more):
    return {**chat(text, stream=False), "max_tokens": max_tokens, **more}


def primed(body):
    """The client's body with what makes it a prefill of vLLM's, and no more."""
    leg = {k: v for k, v in body.items() if k not in ("stream", "stream_options")}
    leg.update(max_tokens=1, stream=False)
    if "max_completion_tokens" in body:
        leg["max_completion_tokens"] = 1
    return leg


def nixl_prefill(body):
    """The client's body as a prefill leg."""
    leg = {**primed(body), "max_completion_tokens": 1, "min_tokens": 1}
    leg["kv_transfer_params"] = {"do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None,
                                 "remote_block_ids": None, "remote_host": None, "remote_port": None}
    return leg


def nixl_decode(body, prefill_answer):
    """The client's body as a decode leg."""
    return {**body, "kv_transfer_params": json.loads(prefill_answer)["kv_transfer_params"]}


def moriio_prefill(body, transfer_id):
    leg = nixl_prefill(body)
    leg["kv_transfer_params"]["transfer_id"] = transfer_id
    return leg


moriio_decode = nixl_decode


def mooncake_prefill(body, transfer_id):
    return {**primed(body), "kv_transfer_params": {
        "do_remote_decode": True, "do_remote_prefill": False, "transfer_id": transfer_id}}


def mooncake_decode(body, transfer_id, bootstrap, engine_id):
    return {**body, "kv_transfer_params": {
        "do_remote_decode": False, "do_remote_prefill": True, "transfer_id": transfer_id,
        "remote_bootstrap_addr": f"http://{bootstrap}", "remote_engine_id": engine_id}}


def sglang_leg(body, port, *rooms):
    """The body of both legs; more than one room makes arrays of the fields."""
    fields = {"bootstrap_host": ["127.0.0.1"] * len(rooms), "bootstrap_port": [port] * len(rooms),
              "bootstrap_room": list(rooms)}
    return {**body, **(fields if len(rooms) > 1 else {k: v[0] for k, v in fields.items()})}


def trtllm_context(body, number):
    leg = {k: v for k, v in body.items() if k not in ("stream", "stream_options")}
    return {**leg, "stream": False,
            "disaggregated_params": {"request_type": "context_only", "disagg_request_id": number}}


def trtllm_generation(body, context_answer):
    params = json.loads(context_answer)["choices"][0]["disaggregated_params"]
    return {**body, "disaggregated_params": {**params, "request_type": "generation_only"}}
