#include "proxy/handoff/prefill_answer.hpp"

#include <simdjson.h>

#include <string_view>

#include "proxy/handoff/connector.hpp"

namespace penstock::handoff {
namespace {

namespace dom = simdjson::dom;
namespace ondemand = simdjson::ondemand;

// More tokens than this in one prompt are nonsense and are not believed.
constexpr std::uint64_t believable = std::uint64_t{1} << 40;

bool count_of(const dom::element& value, std::uint64_t& out) {
  std::uint64_t n = 0;
  if (value.get(n) != simdjson::SUCCESS || n > believable) return false;
  out = n;
  return true;
}

// {"prompt_tokens", "prompt_tokens_details": {"cached_tokens"}}, or the names of the responses API.
void read_usage(const dom::element& usage, prefill_answer& out) {
  dom::object members;
  if (usage.get(members) != simdjson::SUCCESS) return;
  for (const auto [key, value] : members) {
    if (key == "prompt_tokens" || key == "input_tokens") count_of(value, out.prompt_tokens);
    dom::element cached;
    if ((key == "prompt_tokens_details" || key == "input_tokens_details") &&
        value["cached_tokens"].get(cached) == simdjson::SUCCESS)
      out.cached_known |= count_of(cached, out.cached_tokens);
  }
}

bool is_given(const dom::object& in, std::string_view name) {
  dom::element value;
  return in[name].get(value) == simdjson::SUCCESS && !value.is_null();
}

// What vLLM's NIXL connector needs together; with one of them missing it recomputes.
bool read_nixl(const dom::object& params, prefill_answer& out) {
  dom::element value;
  if (params["remote_prefill_cached_tokens"].get(value) == simdjson::SUCCESS)
    out.cached_known |= count_of(value, out.cached_tokens);
  if (params["remote_num_tokens"].get(value) == simdjson::SUCCESS) count_of(value, out.prompt_tokens);
  bool prefilled = false;
  return params["do_remote_prefill"].get(prefilled) == simdjson::SUCCESS && prefilled &&
         is_given(params, "remote_engine_id") && is_given(params, "remote_block_ids") &&
         is_given(params, "remote_host") && is_given(params, "remote_port");
}

// The bytes of the top-level member, as they stand in `padded`.
bytes_view raw_member(const simdjson::padded_string& padded, std::string_view name) {
  ondemand::parser parser;
  ondemand::document doc;
  ondemand::object top;
  if (parser.iterate(padded).get(doc) != simdjson::SUCCESS || doc.get_object().get(top) != simdjson::SUCCESS)
    return {};
  std::string_view raw;
  ondemand::object found;
  if (top.find_field_unordered(name).get_object().get(found) != simdjson::SUCCESS ||
      found.raw_json().get(raw) != simdjson::SUCCESS)
    return {};
  return raw.substr(0, raw.rfind('}') + 1);  // raw_json takes the blanks behind it along
}

}  // namespace

prefill_answer read_prefill_answer(connector_kind kind, bytes_view body) {
  prefill_answer out;
  const connector& how = row(kind);
  const simdjson::padded_string padded(body);
  dom::parser parser;
  dom::object top;
  if (parser.parse(padded).get(top) != simdjson::SUCCESS) return out;
  out.read = true;
  dom::element usage;
  if (top["usage"].get(usage) == simdjson::SUCCESS) read_usage(usage, out);
  dom::object params;
  if (how.params_member.empty() || top[how.params_member].get(params) != simdjson::SUCCESS) return out;
  if (!read_nixl(params, out)) return out;
  const bytes_view raw = raw_member(padded, how.params_member);
  // The copy that was parsed and the caller's bytes are the same, so places are as well.
  if (!raw.empty())
    out.params = body.substr(static_cast<std::size_t>(raw.data() - padded.data()), raw.size());
  return out;
}

}  // namespace penstock::handoff
