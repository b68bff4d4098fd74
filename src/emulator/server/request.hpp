// Bodies of the engine's API: what is asked for, or vLLM's complaint.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "emulator/model/text.hpp"

namespace penstock::emulator {

enum class engine_api : std::uint8_t {
  chat,
  completions,
  responses,
  messages,
  embeddings,
  rerank,
  score,
  tokenize
};

// An error answer; the shape depends on the API. `param` empty: null.
struct api_failure {
  int status = 400;
  std::string message;
  std::string type = "BadRequestError";
  std::string param;
};

// A call of the first (or named) tool in place of a text.
struct tool_call {
  std::string name;
  std::string arguments;  // a JSON object that fits the tool's schema
};

struct engine_request {
  engine_api api = engine_api::chat;
  std::string model;    // as answered: the request's, or the base model's
  std::string adapter;  // LoRA name, or empty
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  std::uint32_t n = 1;
  std::uint32_t max_tokens = 0;  // resolved: never above what the model's length leaves
  answer_request sampling;       // max_tokens of it is the one above
  std::string cache_salt;
  std::vector<std::vector<token_id>> prompts;
  std::vector<std::string> texts;  // rerank and score: the documents
  tool_call tool;                  // name empty: none
  bool base64_vectors = false;
  std::string kv_transfer_params = "null";  // of the answer
  std::string disaggregated_params;         // of the answer's choice; "": TensorRT-LLM has no part in it
  // What /v1/responses repeats in its answers, as JSON.
  std::string instructions = "null", metadata = "null", temperature = "1.0", top_p = "1.0",
              max_output_tokens = "null", tools = "[]", tool_choice = "\"auto\"", previous = "null";
};

// What the engine serves; owned by the server.
struct model_list {
  std::vector<std::string> names;  // of the base model, at least one
  std::vector<std::string> adapters;
  std::uint32_t max_len = 0;

  bool knows(std::string_view model) const;
  bool is_adapter(std::string_view model) const;
};

// Finds the tokens of an earlier response by its id; empty when it is not known.
using response_memory = std::function<std::vector<token_id>(std::string_view id)>;

std::variant<engine_request, api_failure> parse_request(engine_api api, std::string_view body,
                                                        const model_list& models,
                                                        const response_memory& memory);

// True when the body has kv_transfer_params.do_remote_prefill, which kills a vLLM that was not set up for it.
bool is_poison(std::string_view body);

api_failure unknown_model(std::string_view model, const model_list& models);
std::variant<std::string, api_failure> detokenize_request(std::string_view body, const model_list& models);
// "model" field of a multipart form; empty when there is none.
std::string multipart_field(std::string_view content_type, std::string_view body, std::string_view field);

}  // namespace penstock::emulator
