// /v1/responses, as recorded from vLLM 0.32.0.
#include <fmt/format.h>

#include <iterator>

#include "emulator/server/answer_shape.hpp"
#include "emulator/server/json_text.hpp"

namespace penstock::emulator {
namespace {

class responses_shape final : public answer_shape {
 public:
  responses_shape(const engine_request& request, const answer_identity& identity)
      : answer_shape(request, identity),
        id_("resp_" + identity.id),
        item_((tool() ? "fc_" : "msg_") + identity.id) {}

  void open(events& out) override {
    for (const std::string_view type : {"response.created", "response.in_progress"}) {
      add(type, fmt::format(R"("response":{})", response("in_progress", "[]", "null", "null")), out);
    }
  }

  void first(std::uint32_t, const usage_counts&, events& out) override {
    const std::string item =
        tool() ? function_item("", "in_progress")
               : fmt::format(

                     R"({{"id":{},"content":[],"role":"assistant","status":"in_progress","type":"message",)"
                     R"("phase":null}})",
                     quote(item_));
    add("response.output_item.added", fmt::format(R"("item":{},"output_index":0)", item), out);
    if (tool()) return;
    add("response.content_part.added",
        fmt::format(

            R"("content_index":0,"item_id":{},"output_index":0,"part":{{"annotations":[],"text":"",)"
            R"("type":"output_text","logprobs":[]}})",
            quote(item_)),
        out);
  }

  void token(std::uint32_t, std::string_view piece, const answer*, const usage_counts&,
             events& out) override {
    if (piece.empty()) return;  // the end-of-sequence token
    if (tool()) {
      add("response.function_call_arguments.delta",
          fmt::format(R"("delta":{},"item_id":{},"output_index":0)", quote(piece), quote(item_)), out);
    } else {
      add("response.output_text.delta",
          fmt::format(R"("content_index":0,"delta":{},"item_id":{},"logprobs":[],"output_index":0)",
                      quote(piece), quote(item_)),
          out);
    }
  }

  void close(std::span<const answer> answers, const usage_counts& usage, bool marker, events& out) override {
    const answer& a = answers.front();
    if (tool()) {
      add("response.function_call_arguments.done",
          fmt::format(R"("arguments":{},"item_id":{},"name":{},"output_index":0)", quote(a.text),
                      quote(item_), quote(request_.tool.name)),
          out);
    } else {
      add("response.output_text.done",
          fmt::format(R"("content_index":0,"item_id":{},"logprobs":[],"output_index":0)", quote(item_)), out,
          fmt::format(R"("text":{},)", quote(a.text)));
      add("response.content_part.done",
          fmt::format(R"("content_index":0,"item_id":{},"output_index":0,"part":{})", quote(item_),
                      part(a.text)),
          out);
    }
    add("response.output_item.done", fmt::format(R"("item":{},"output_index":0)", item(a)), out);
    if (marker) add("response.completed", fmt::format(R"("response":{})", finished(a, usage)), out);
  }

  void error(bool marker, events& out) override {
    if (marker) return answer_shape::error(false, out);  // this API has no [DONE]
    add("response.failed", fmt::format(R"("response":{})", response("failed", "[]", "null", "null")), out);
  }

  std::string whole(std::span<const answer> answers, const usage_counts& usage) override {
    return finished(answers.front(), usage);
  }
  std::string public_id() const override { return id_; }

 private:
  bool tool() const { return !request_.tool.name.empty(); }

  // vLLM writes an event's members in the alphabet's order, hence `behind` the sequence number.
  void add(std::string_view type, std::string_view members, events& out, std::string_view behind = {}) {
    out.push_back(fmt::format("event: {0}\ndata: {{{1},\"sequence_number\":{2},{3}\"type\":\"{0}\"}}\n\n",
                              type, members, sequence_++, behind));
  }

  static std::string part(std::string_view text) {
    return fmt::format(R"({{"annotations":[],"text":{},"type":"output_text","logprobs":null}})", quote(text));
  }

  std::string function_item(std::string_view arguments, std::string_view status) const {
    return fmt::format(
        R"({{"arguments":{},"call_id":{},"name":{},"type":"function_call","id":{},"status":"{}"}})",
        quote(arguments), quote("call_" + identity_.id), quote(request_.tool.name), quote(item_), status);
  }

  std::string item(const answer& a) const {
    if (tool()) return function_item(a.text, "completed");
    return fmt::format(
        R"({{"id":{},"content":[{}],"role":"assistant","status":"completed","type":"message","phase":null}})",
        quote(item_), part(a.text));
  }

  std::string finished(const answer& a, const usage_counts& u) const {
    const bool cut = a.finish == finish_kind::length;
    const std::string usage = fmt::format(

        R"({{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{},"cache_write_tokens":0,)"
        R"("input_tokens_per_turn":[],"cached_tokens_per_turn":[]}},"output_tokens":{},)"
        R"("output_tokens_details":{{"reasoning_tokens":0,"tool_output_tokens":0,)"
        R"("output_tokens_per_turn":[],"tool_output_tokens_per_turn":[]}},"total_tokens":{}}})",
        u.prompt, identity_.details ? u.cached : 0, u.completion, u.prompt + u.completion);
    return response(cut ? "incomplete" : "completed", fmt::format("[{}]", item(a)),
                    cut ? R"({"reason":"max_output_tokens"})" : "null", usage);
  }

  std::string response(std::string_view status, std::string_view output, std::string_view incomplete,
                       std::string_view usage) const {
    const engine_request& r = request_;
    return fmt::format(

        R"({{"id":{},"created_at":{},"incomplete_details":{},"instructions":{},"metadata":{},)"
        R"("model":{},"object":"response","output":{},"parallel_tool_calls":true,"temperature":{},)"
        R"("tool_choice":{},"tools":{},"top_p":{},"background":false,"max_output_tokens":{},)"
        R"("max_tool_calls":null,"previous_response_id":{},"prompt":null,"reasoning":null,)"
        R"("service_tier":"auto","status":"{}","text":null,"top_logprobs":null,)"
        R"("truncation":"disabled","usage":{},"user":null,"presence_penalty":0.0,)"
        R"("frequency_penalty":0.0,"kv_transfer_params":{},"ec_transfer_params":null,)"
        R"("input_messages":null,"output_messages":null}})",
        quote(id_), identity_.created, incomplete, r.instructions, r.metadata, quote(r.model), output,
        r.temperature, r.tool_choice, r.tools, r.top_p, r.max_output_tokens, r.previous, status, usage,
        r.kv_transfer_params);
  }

  std::string id_;
  std::string item_;
  int sequence_ = 0;
};

}  // namespace

std::unique_ptr<answer_shape> make_responses_shape(const engine_request& request,
                                                   const answer_identity& identity) {
  return std::make_unique<responses_shape>(request, identity);
}

}  // namespace penstock::emulator
