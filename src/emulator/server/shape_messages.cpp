// Anthropic's /v1/messages, as recorded from vLLM 0.32.0.
#include <fmt/format.h>

#include "emulator/server/answer_shape.hpp"
#include "emulator/server/json_text.hpp"

namespace penstock::emulator {
namespace {

class messages_shape final : public answer_shape {
 public:
  messages_shape(const engine_request& request, const answer_identity& identity)
      : answer_shape(request, identity), id_("chatcmpl-" + identity.id) {}

  void first(std::uint32_t, const usage_counts& u, events& out) override {
    add("message_start",
        fmt::format(

            R"("message":{{"id":{},"type":"message","role":"assistant","content":[],"model":{},)"
            R"("stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":{},)"
            R"("output_tokens":0}}}})",
            quote(id_), quote(request_.model), u.prompt),
        out);
    add("content_block_start",
        fmt::format(R"("content_block":{},"index":0)",
                    tool() ? tool_block("{}") : R"({"type":"text","text":""})"),
        out);
  }

  void token(std::uint32_t, std::string_view piece, const answer*, const usage_counts&,
             events& out) override {
    if (piece.empty()) return;  // the end-of-sequence token
    const std::string delta =
        tool() ? fmt::format(R"({{"type":"input_json_delta","partial_json":{}}})", quote(piece))
               : fmt::format(R"({{"type":"text_delta","text":{}}})", quote(piece));
    add("content_block_delta", fmt::format(R"("delta":{},"index":0)", delta), out);
  }

  void close(std::span<const answer> answers, const usage_counts& u, bool marker, events& out) override {
    const answer& a = answers.front();
    add("content_block_stop", R"("index":0)", out);
    add("message_delta",
        fmt::format(R"("delta":{{"stop_reason":"{}","stop_sequence":{}}},"usage":{})", reason(a),
                    quote_or_null(a.stop_sequence), usage(u)),
        out);
    if (marker) out.emplace_back("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
  }

  void error(bool marker, events& out) override {
    if (marker) return answer_shape::error(true, out);
    add("error", R"("error":{"type":"internal_error","message":"EngineCore encountered an issue."})", out);
  }

  std::string whole(std::span<const answer> answers, const usage_counts& u) override {
    const answer& a = answers.front();
    const std::string block =
        tool() ? tool_block(a.text) : fmt::format(R"({{"type":"text","text":{}}})", quote(a.text));
    return fmt::format(

        R"({{"id":{},"type":"message","role":"assistant","content":[{}],"model":{},)"
        R"("stop_reason":"{}"{},"usage":{}{}}})",
        quote(id_), block, quote(request_.model), reason(a),
        a.stop_sequence.empty() ? "" : fmt::format(R"(,"stop_sequence":{})", quote(a.stop_sequence)),
        usage(u),
        request_.kv_transfer_params == "null" ? ""
                                              : ",\"kv_transfer_params\":" + request_.kv_transfer_params);
  }
  std::string public_id() const override { return id_; }

 private:
  bool tool() const { return !request_.tool.name.empty(); }

  static void add(std::string_view type, std::string_view members, events& out) {
    out.push_back(fmt::format("event: {0}\ndata: {{\"type\":\"{0}\",{1}}}\n\n", type, members));
  }

  std::string tool_block(std::string_view input) const {
    return fmt::format(R"({{"type":"tool_use","id":{},"name":{},"input":{}}})",
                       quote("toolu_" + identity_.id), quote(request_.tool.name), input);
  }

  std::string_view reason(const answer& a) const {
    if (a.finish == finish_kind::length) return "max_tokens";
    if (!a.stop_sequence.empty()) return "stop_sequence";
    return tool() ? "tool_use" : "end_turn";
  }

  std::string usage(const usage_counts& u) const {
    const std::uint32_t cached = identity_.details ? u.cached : 0;
    return fmt::format(

        R"({{"input_tokens":{},"output_tokens":{},"cache_creation_input_tokens":0,)"
        R"("cache_read_input_tokens":{}}})",
        u.prompt - cached, u.completion, cached);
  }

  std::string id_;
};

}  // namespace

std::unique_ptr<answer_shape> make_messages_shape(const engine_request& request,
                                                  const answer_identity& identity) {
  return std::make_unique<messages_shape>(request, identity);
}

}  // namespace penstock::emulator
