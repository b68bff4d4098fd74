// Event streams as real engines sent them, chunk framing removed, shortened in the middle.
#pragma once

#include <string_view>

namespace penstock::http::test {

// Recorded from vLLM 0.32.0: chat, stream_options.include_usage.
inline constexpr std::string_view vllm_chat =
    R"(data: {"id":"chatcmpl-9d391ef8682a25a2","object":"chat.completion.chunk","created":1795369854,"model":"tiny","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}

data: {"id":"chatcmpl-9d391ef8682a25a2","object":"chat.completion.chunk","created":1795369854,"model":"tiny","choices":[{"index":0,"delta":{"content":" always"},"logprobs":null,"finish_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-9d391ef8682a25a2","object":"chat.completion.chunk","created":1795369854,"model":"tiny","choices":[{"index":0,"delta":{"content":"ared"},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-9d391ef8682a25a2","object":"chat.completion.chunk","created":1795369854,"model":"tiny","choices":[],"usage":{"prompt_tokens":23,"total_tokens":35,"completion_tokens":12,"prompt_tokens_details":{"cached_tokens":16,"created_cache_tokens":0}},"system_fingerprint":"vllm-0.32.0-ff6cb3b9"}

data: [DONE]

)";

// Recorded from llama.cpp b11434: chat; usage in the last chunk, an empty delta before it.
inline constexpr std::string_view llama_chat =
    R"(data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1795369106,"id":"chatcmpl-nfCcWVIxpBNIgcMOkvzpaQr402ElfIDd","model":"tiny","system_fingerprint":"b0-unknown","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" always"}}],"created":1795369106,"id":"chatcmpl-nfCcWVIxpBNIgcMOkvzpaQr402ElfIDd","model":"tiny","system_fingerprint":"b0-unknown","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"created":1795369106,"id":"chatcmpl-nfCcWVIxpBNIgcMOkvzpaQr402ElfIDd","model":"tiny","system_fingerprint":"b0-unknown","object":"chat.completion.chunk"}

data: {"choices":[],"created":1795369106,"id":"chatcmpl-nfCcWVIxpBNIgcMOkvzpaQr402ElfIDd","model":"tiny","system_fingerprint":"b0-unknown","object":"chat.completion.chunk","usage":{"completion_tokens":12,"prompt_tokens":23,"total_tokens":35,"prompt_tokens_details":{"cached_tokens":22}},"timings":{"cache_n":22,"prompt_n":1}}

data: [DONE]

)";

// Recorded from vLLM 0.32.0: chat, n = 2, continuous usage, logprobs.
inline constexpr std::string_view vllm_chat_n2 =
    R"(data: {"id":"chatcmpl-b21594fc1e07572d","object":"chat.completion.chunk","created":1795369855,"model":"tiny","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":23,"total_tokens":23,"completion_tokens":0,"completion_tokens_details":null},"prompt_token_ids":null,"prompt_text":null}

data: {"id":"chatcmpl-b21594fc1e07572d","object":"chat.completion.chunk","created":1795369855,"model":"tiny","choices":[{"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":{"prompt_tokens":23,"total_tokens":23,"completion_tokens":0,"completion_tokens_details":null},"prompt_token_ids":null,"prompt_text":null}

data: {"id":"chatcmpl-b21594fc1e07572d","object":"chat.completion.chunk","created":1795369855,"model":"tiny","choices":[{"index":0,"delta":{"content":"mediate"},"logprobs":{"content":[{"token":"mediate","logprob":-8.002643585205078,"bytes":[109,101,100,105,97,116,101],"top_logprobs":[]}]},"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":23,"total_tokens":24,"completion_tokens":1,"completion_tokens_details":null}}

data: {"id":"chatcmpl-b21594fc1e07572d","object":"chat.completion.chunk","created":1795369855,"model":"tiny","choices":[{"index":1,"delta":{"content":""},"logprobs":{"content":[{"token":"","logprob":-8.430377960205078,"bytes":[],"top_logprobs":[]}]},"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":23,"total_tokens":24,"completion_tokens":1,"completion_tokens_details":null}}

data: {"id":"chatcmpl-b21594fc1e07572d","object":"chat.completion.chunk","created":1795369855,"model":"tiny","choices":[],"usage":{"prompt_tokens":23,"total_tokens":35,"completion_tokens":12,"prompt_tokens_details":{"cached_tokens":0,"created_cache_tokens":0}},"system_fingerprint":"vllm-0.32.0-ff6cb3b9"}

data: [DONE]

)";

// Recorded from llama.cpp b11434: completions; usage on the chunk that also has a choice.
inline constexpr std::string_view llama_completions =
    R"(data: {"choices":[{"text":"Selector","index":0,"logprobs":null,"finish_reason":null}],"created":1795369106,"model":"tiny","system_fingerprint":"b0-unknown","object":"text_completion","id":"chatcmpl-JZu0zKJZlDc536M8JA2gols7ZLkPcEFQ"}

data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],"created":1795369106,"model":"tiny","system_fingerprint":"b0-unknown","object":"text_completion","usage":{"completion_tokens":6,"prompt_tokens":5,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4}},"id":"chatcmpl-JZu0zKJZlDc536M8JA2gols7ZLkPcEFQ"}

data: [DONE]

)";

// Recorded from vLLM 0.32.0: responses (the response objects shortened).
inline constexpr std::string_view vllm_responses =
    R"(event: response.created
data: {"response":{"id":"resp_b0278e7468bb1812","created_at":1795369855,"model":"tiny","object":"response","output":[],"status":"in_progress","usage":null},"sequence_number":0,"type":"response.created"}

event: response.in_progress
data: {"response":{"id":"resp_b0278e7468bb1812","created_at":1795369855,"model":"tiny","object":"response","output":[],"status":"in_progress","usage":null},"sequence_number":1,"type":"response.in_progress"}

event: response.output_item.added
data: {"item":{"id":"msg_a5ed22e78f10fed3","content":[],"role":"assistant","status":"in_progress","type":"message","phase":null},"output_index":0,"sequence_number":2,"type":"response.output_item.added"}

event: response.output_text.delta
data: {"content_index":0,"delta":"RO","item_id":"msg_a5ed22e78f10fed3","logprobs":[],"output_index":0,"sequence_number":4,"type":"response.output_text.delta"}

event: response.output_text.done
data: {"content_index":0,"item_id":"msg_a5ed22e78f10fed3","logprobs":[],"output_index":0,"sequence_number":6,"text":"RO","type":"response.output_text.done"}

event: response.completed
data: {"response":{"id":"resp_b0278e7468bb1812","created_at":1795369855,"model":"tiny","object":"response","output":[],"status":"completed","usage":{"input_tokens":15,"input_tokens_details":{"cached_tokens":8},"output_tokens":4,"total_tokens":19}},"sequence_number":9,"type":"response.completed"}

)";

// Recorded from vLLM 0.32.0: Anthropic messages.
inline constexpr std::string_view vllm_messages =
    R"(event: message_start
data: {"type":"message_start","message":{"id":"chatcmpl-a09f34681f6af153","type":"message","role":"assistant","content":[],"model":"tiny","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":23,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","content_block":{"type":"text","text":""},"index":0}

event: content_block_delta
data: {"type":"content_block_delta","delta":{"type":"text_delta","text":" conversion"},"index":0}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"input_tokens":23,"output_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}}

event: message_stop
data: {"type":"message_stop"}

)";

// Recorded from vLLM 0.32.0: SIGTERM in the middle of a stream.
inline constexpr std::string_view vllm_sigterm =
    R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795369855,"model":"tiny","choices":[{"index":0,"delta":{"content":" algorith"},"logprobs":null,"finish_reason":null,"token_ids":null}]}

data: {"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.", "type": "InternalServerError", "param": null, "code": 500}}

data: [DONE]

)";

}  // namespace penstock::http::test
