#!/usr/bin/env python3
"""Makes one tiny Llama with random weights, in two formats, without any download.

usage: tiny_model.py FOLDER     -> FOLDER/hf (safetensors, for vLLM) and FOLDER/tiny.gguf (for llama.cpp)

The byte-level BPE is trained on texts that are on every Debian machine; the weights come from a fixed seed. Both
engines compute the same greedy answers from it.
"""
import glob
import json
import os
import struct
import sys

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY, WIDTH, INNER, LAYERS, HEADS, KV_HEADS, CONTEXT, ROPE = 4096, 128, 256, 2, 4, 2, 32768, 10000.0
HEAD = WIDTH // HEADS
BEGIN, END, HEADER, HEADER_END, TURN_END, PAD = SPECIALS = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|pad|>"]
TEMPLATE = ("{{ bos_token }}{% for m in messages %}" + HEADER + "{{ m['role'] }}" + HEADER_END + "\n\n{{ m['content'] | trim }}"
            + TURN_END + "{% endfor %}{% if add_generation_prompt %}" + HEADER + "assistant" + HEADER_END + "\n\n{% endif %}")


def texts():
    library = sorted(glob.glob(os.path.join(os.path.dirname(os.__file__), "*.py")))[:120]
    for path in sorted(glob.glob("/usr/share/common-licenses/*")) + library:
        with open(path, encoding="utf-8", errors="ignore") as file:
            yield file.read()


def train_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts(), trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIALS, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if tokenizer.get_vocab_size() != VOCABULARY:
        sys.exit(f"the texts of this machine give {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))])
    return tokenizer


def round_to_bfloat16(array):
    return (array.astype("<f4").view("<u4") >> 16 << 16).view("<f4")


def make_weights():
    """Name (Hugging Face's) -> float32 array whose values are bfloat16's."""
    random = np.random.default_rng(20261122)

    def matrix(*shape):
        return round_to_bfloat16(random.standard_normal(shape, dtype=np.float32) * 0.08)

    ones = np.ones(WIDTH, dtype=np.float32)
    weights = {"model.embed_tokens.weight": matrix(VOCABULARY, WIDTH), "model.norm.weight": ones,
               "lm_head.weight": matrix(VOCABULARY, WIDTH)}
    weights["lm_head.weight"][:len(SPECIALS)] = 0     # greedy answers never contain a control token
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for name, shape in [("self_attn.q_proj", (HEADS * HEAD, WIDTH)), ("self_attn.k_proj", (KV_HEADS * HEAD, WIDTH)),
                            ("self_attn.v_proj", (KV_HEADS * HEAD, WIDTH)), ("self_attn.o_proj", (WIDTH, HEADS * HEAD)),
                            ("mlp.gate_proj", (INNER, WIDTH)), ("mlp.up_proj", (INNER, WIDTH)), ("mlp.down_proj", (WIDTH, INNER))]:
            weights[at + name + ".weight"] = matrix(*shape)
        weights[at + "input_layernorm.weight"] = weights[at + "post_attention_layernorm.weight"] = ones
    return weights


def write_hugging_face(folder, tokenizer, weights):
    os.makedirs(folder, exist_ok=True)
    tokenizer.save(f"{folder}/tokenizer.json")
    begin, turn_end = tokenizer.token_to_id(BEGIN), tokenizer.token_to_id(TURN_END)

    def write(name, value):
        with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)

    write("config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "vocab_size": VOCABULARY,
        "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "max_position_embeddings": CONTEXT, "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "rope_theta": ROPE, "tie_word_embeddings": False, "bos_token_id": begin, "eos_token_id": turn_end})
    write("generation_config.json", {"bos_token_id": begin, "eos_token_id": turn_end})
    write("tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN, "eos_token": TURN_END, "pad_token": PAD,
        "model_max_length": CONTEXT, "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE})
    write("special_tokens_map.json", {"bos_token": BEGIN, "eos_token": TURN_END, "pad_token": PAD})
    # safetensors by hand, since numpy has no bfloat16: the upper halves of the floats.
    header, data = {"__metadata__": {"format": "pt"}}, bytearray()
    for name, array in weights.items():
        raw = (array.view("<u4") >> 16).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head + data)


def interleave(weight, heads):
    """Rotary halves, as Hugging Face has them, become the neighbouring pairs of llama.cpp."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(path, tokenizer, weights):
    out = gguf.GGUFWriter(path, "llama")
    out.add_name("tiny")
    out.add_context_length(CONTEXT)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_rope_dimension_count(HEAD)
    out.add_rope_freq_base(ROPE)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_vocab_size(VOCABULARY)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    description = json.loads(tokenizer.to_str())
    tokens = [token for token, _ in sorted(description["model"]["vocab"].items(), key=lambda item: item[1])]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    out.add_token_types([gguf.TokenType.CONTROL if token in SPECIALS else gguf.TokenType.NORMAL for token in tokens])
    out.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in description["model"]["merges"]])
    out.add_bos_token_id(tokenizer.token_to_id(BEGIN))
    out.add_eos_token_id(tokenizer.token_to_id(TURN_END))
    out.add_add_bos_token(True)
    out.add_chat_template(TEMPLATE)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
             "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
             "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down"}
    for name, weight in weights.items():
        stem = name.removesuffix(".weight")
        block = ""
        if stem.startswith("model.layers."):
            _, _, layer, stem = stem.split(".", 3)
            block = f"blk.{layer}."
        if stem.endswith("q_proj"):
            weight = interleave(weight, HEADS)
        elif stem.endswith("k_proj"):
            weight = interleave(weight, KV_HEADS)
        out.add_tensor(f"{block}{names[stem]}.weight", np.ascontiguousarray(weight))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main():
    folder = sys.argv[1]
    tokenizer, weights = train_tokenizer(), make_weights()
    write_hugging_face(f"{folder}/hf", tokenizer, weights)
    write_gguf(f"{folder}/tiny.gguf", tokenizer, weights)


main()
