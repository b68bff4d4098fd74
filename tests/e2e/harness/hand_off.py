"""The proxy's part of a hand-off, played by hand: what each connector's legs look like."""
import json

from .wire import chat


def body_of(text, max_tokens=24, **more):
    return {**chat(text, stream=False), "max_tokens": max_tokens, **more}


def nixl_prefill(body):
    """The client's body as a prefill leg."""
    leg = {k: v for k, v in body.items() if k not in ("stream", "stream_options")}
    leg.update(max_tokens=1, max_completion_tokens=1, min_tokens=1, stream=False)
    leg["kv_transfer_params"] = {"do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None,
                                 "remote_block_ids": None, "remote_host": None, "remote_port": None}
    return leg


def nixl_decode(body, prefill_answer):
    """The client's body as a decode leg."""
    return {**body, "kv_transfer_params": json.loads(prefill_answer)["kv_transfer_params"]}
