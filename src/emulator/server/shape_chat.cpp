// Chat and text completions, as recorded from vLLM 0.32.0.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <iterator>

#include "emulator/server/answer_shape.hpp"
#include "emulator/server/json_text.hpp"

namespace penstock::emulator {
namespace {

constexpr std::string_view fingerprint = R"("system_fingerprint":"vllm-0.32.0-ff6cb3b9")";
constexpr std::string_view done_event = "data: [DONE]\n\n";

std::string_view finish_name(const answer& a, bool tool) {
  if (a.finish == finish_kind::length) return "\"length\"";
  if (a.finish == finish_kind::not_finished) return "\"not_finished\"";
  return tool ? "\"tool_calls\"" : "\"stop\"";
}

// The usage of one event of a stream with continuous_usage_stats.
std::string running_usage(const usage_counts& u) {
  return fmt::format(

      R"(,"usage":{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{},)"
      R"("completion_tokens_details":null}})",
      u.prompt, u.prompt + u.completion, u.completion);
}

class completions_base : public answer_shape {
 public:
  completions_base(const engine_request& request, const answer_identity& identity, std::string_view prefix,
                   std::string_view object)
      : answer_shape(request, identity), id_(std::string(prefix) + identity.id) {
    start_ = fmt::format(R"({{"id":{},"object":"{}","created":{},"model":{},"choices":[)", quote(id_), object,
                         identity.created, quote(request.model));
  }

  void close(std::span<const answer>, const usage_counts& usage, bool marker, events& out) override {
    if (request_.include_usage) {
      out.push_back(fmt::format(

          R"(data: {}],"usage":{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{},)"
          R"("prompt_tokens_details":{}}},{}}})",
          start_, usage.prompt, usage.prompt + usage.completion, usage.completion, details(usage, false),
          fingerprint));
      out.back() += "\n\n";
    }
    if (marker) out.emplace_back(done_event);
  }
  std::string public_id() const override { return id_; }

 protected:
  virtual std::string details(const usage_counts& usage, bool whole) const = 0;

  std::string whole_usage(const usage_counts& u) const {
    return fmt::format(

        R"("usage":{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{},)"
        R"("prompt_tokens_details":{},"completion_tokens_details":null}})",
        u.prompt, u.prompt + u.completion, u.completion, details(u, true));
  }
  // What TensorRT-LLM's context answer has besides: its hand-off, in the choice, and the prompt's tokens.
  std::string context() const {
    if (request_.disaggregated_params.empty()) return {};
    return ",\"disaggregated_params\":" + request_.disaggregated_params;
  }
  std::string prompt_ids() const {
    if (request_.disaggregated_params.empty()) return "null";
    return fmt::format("[{}]", fmt::join(request_.prompts.front(), ","));
  }
  // Closes the choices of an event.
  void end_event(bool last, const usage_counts& usage, std::string& text) const {
    text += ']';
    if (request_.continuous_usage) text += running_usage(usage);
    if (last && !request_.include_usage) fmt::format_to(std::back_inserter(text), ",{}", fingerprint);
  }

  std::string id_;
  std::string start_;  // of an event, up to the choices
};

class chat_shape final : public completions_base {
 public:
  chat_shape(const engine_request& request, const answer_identity& identity)
      : completions_base(request, identity, "chatcmpl-", "chat.completion.chunk") {}

  void first(std::uint32_t choice, const usage_counts& usage, events& out) override {
    std::string& text = out.emplace_back("data: ");
    text += start_;
    fmt::format_to(
        std::back_inserter(text),
        R"({{"index":{},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}])",
        choice);
    if (request_.continuous_usage) text += running_usage({usage.prompt, 0, 0, 0});
    text += ",\"prompt_token_ids\":null,\"prompt_text\":null}\n\n";
    if (!request_.tool.name.empty()) announce_tool(choice, usage, out);
  }

  void token(std::uint32_t choice, std::string_view piece, const answer* last, const usage_counts& usage,
             events& out) override {
    std::string& text = out.emplace_back("data: ");
    text += start_;
    fmt::format_to(std::back_inserter(text), R"({{"index":{},"delta":{{)", choice);
    const bool tool = !request_.tool.name.empty();
    text += tool ? R"("tool_calls":[{"index":0,"function":{"arguments":")" : R"("content":")";
    append_escaped(text, piece);
    text += tool ? "\"}}]" : "\"";
    text += R"(},"logprobs":null,"finish_reason":)";
    if (last != nullptr) {
      fmt::format_to(std::back_inserter(text), R"({},"stop_reason":{},"token_ids":null}})",
                     finish_name(*last, tool), quote_or_null(last->stop_sequence));
    } else {
      text += "null,\"token_ids\":null}";
    }
    end_event(last != nullptr, usage, text);
    text += "}\n\n";
  }

  std::string whole(std::span<const answer> answers, const usage_counts& usage) override {
    std::string text =
        fmt::format(R"({{"id":{},"object":"chat.completion","created":{},"model":{},"choices":[)", quote(id_),
                    identity_.created, quote(request_.model));
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const answer& a = answers[i];
      const bool tool = !request_.tool.name.empty();
      fmt::format_to(std::back_inserter(text),

                     R"({}{{"index":{},"message":{{"role":"assistant","content":{},"refusal":null,)"
                     R"("annotations":null,"audio":null,"function_call":null{},"reasoning":null}},)"
                     R"("logprobs":null,"finish_reason":{},"stop_reason":{},"token_ids":null,)"
                     R"("routed_experts":null{}}})",
                     i > 0 ? "," : "", i, tool ? "null" : quote(a.text), tool ? tool_calls(i, a) : "",
                     finish_name(a, tool), quote_or_null(a.stop_sequence), context());
    }
    fmt::format_to(std::back_inserter(text),

                   R"(],"service_tier":null,{},{},"prompt_logprobs":null,"prompt_token_ids":{},)"
                   R"("prompt_text":null,"kv_transfer_params":{},"ec_transfer_params":null,"metrics":null}})",
                   fingerprint, whole_usage(usage), prompt_ids(), request_.kv_transfer_params);
    return text;
  }

 private:
  std::string call_id(std::size_t choice) const {
    return fmt::format("chatcmpl-tool-{}{}", identity_.id, choice);
  }

  std::string tool_calls(std::size_t choice, const answer& a) const {
    return fmt::format(
        R"(,"tool_calls":[{{"id":{},"type":"function","function":{{"name":{},"arguments":{}}}}}])",
        quote(call_id(choice)), quote(request_.tool.name), quote(a.text));
  }

  void announce_tool(std::uint32_t choice, const usage_counts& usage, events& out) {
    std::string& text = out.emplace_back("data: ");
    text += start_;
    fmt::format_to(std::back_inserter(text),

                   R"({{"index":{},"delta":{{"tool_calls":[{{"id":{},"type":"function","index":0,)"
                   R"("function":{{"name":{},"arguments":""}}}}]}},"logprobs":null,"finish_reason":null,)"
                   R"("token_ids":null}}])",
                   choice, quote(call_id(choice)), quote(request_.tool.name));
    if (request_.continuous_usage) text += running_usage({usage.prompt, 0, 0, 0});
    text += "}\n\n";
  }

  std::string details(const usage_counts& u, bool whole) const override {
    if (!identity_.details) return "null";
    return fmt::format(R"({{"cached_tokens":{},"created_cache_tokens":{}{}}})", u.cached, u.created,
                       whole ? R"(,"multimodal_tokens":null)" : "");
  }
};

class completions_shape final : public completions_base {
 public:
  completions_shape(const engine_request& request, const answer_identity& identity)
      : completions_base(request, identity, "cmpl-", "text_completion") {}

  void first(std::uint32_t, const usage_counts&, events&) override {}

  void token(std::uint32_t choice, std::string_view piece, const answer* last, const usage_counts& usage,
             events& out) override {
    std::string& text = out.emplace_back("data: ");
    text += start_;
    fmt::format_to(std::back_inserter(text), R"({{"index":{},"text":")", choice);
    append_escaped(text, piece);
    fmt::format_to(
        std::back_inserter(text),
        R"(","logprobs":null,"finish_reason":{},"stop_reason":{},"prompt_token_ids":null,"token_ids":null}})",
        last != nullptr ? finish_name(*last, false) : "null",
        quote_or_null(last != nullptr ? last->stop_sequence : std::string{}));
    end_event(last != nullptr, usage, text);
    text += "}\n\n";
  }

  std::string whole(std::span<const answer> answers, const usage_counts& usage) override {
    std::string text = start_;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      fmt::format_to(
          std::back_inserter(text),

          R"({}{{"index":{},"text":{},"logprobs":null,"finish_reason":{},"stop_reason":{},)"
          R"("token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null{}}})",
          i > 0 ? "," : "", i, quote(answers[i].text), finish_name(answers[i], false),
          quote_or_null(answers[i].stop_sequence), context());
    }
    fmt::format_to(
        std::back_inserter(text),
        R"(],"service_tier":null,{},{},"kv_transfer_params":{},"ec_transfer_params":null,"metrics":null}})",
        fingerprint, whole_usage(usage), request_.kv_transfer_params);
    // TensorRT-LLM's context answer saves the other engine the cutting.
    if (!request_.disaggregated_params.empty())
      text.insert(text.size() - 1, ",\"prompt_token_ids\":" + prompt_ids());
    return text;
  }

 private:
  std::string details(const usage_counts& u, bool whole) const override {
    if (!identity_.details) return "null";
    return fmt::format(R"({{"cached_tokens":{}{}}})", u.cached,
                       whole ? R"(,"created_cache_tokens":null,"multimodal_tokens":null)" : "");
  }
};

}  // namespace

std::unique_ptr<answer_shape> make_chat_shape(const engine_request& request,
                                              const answer_identity& identity) {
  return std::make_unique<chat_shape>(request, identity);
}

std::unique_ptr<answer_shape> make_completions_shape(const engine_request& request,
                                                     const answer_identity& identity) {
  return std::make_unique<completions_shape>(request, identity);
}

}  // namespace penstock::emulator
