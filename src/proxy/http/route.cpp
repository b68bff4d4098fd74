#include "proxy/http/route.hpp"

#include <algorithm>

#include "proxy/http/char_tables.hpp"
#include "proxy/http/field_names.hpp"
#include "proxy/http/media_type.hpp"
#include "proxy/http/refusal.hpp"
#include "proxy/http/target.hpp"

namespace penstock::http {
namespace {

constexpr bytes_view models_prefix = "/v1/models/";
constexpr bytes_view allow_post = "POST, OPTIONS";
constexpr bytes_view allow_get = "GET, HEAD, OPTIONS";

struct named_path {
  bytes_view path;
  api_kind api;
};

constexpr named_path named_paths[] = {
    {"/v1/chat/completions", api_kind::chat},
    {"/v1/completions", api_kind::completions},
    {"/v1/responses", api_kind::responses},
    {"/v1/messages", api_kind::messages},
    {"/v1/embeddings", api_kind::embeddings},
    {"/v1/rerank", api_kind::rerank},
    {"/v1/score", api_kind::score},
    {"/tokenize", api_kind::tokenize},
    {"/detokenize", api_kind::detokenize},
    {"/v1/models", api_kind::models},
    {"/health", api_kind::health},
    {"/ping", api_kind::health},
};

// Words that engines use for paths which change or reveal the engine itself: adapters, weights, sleep,
// profiling, caches, scaling. vLLM has the adapter paths under /v1 and the rest at the root; SGLang all
// at the root; both move. A path with such a segment under /v1/ passes only when `passthrough` names it.
constexpr bytes_view internal_words[] = {
    "load_lora_adapter",
    "unload_lora_adapter",
    "load_lora_adapter_from_tensors",
    "sleep",
    "wake_up",
    "is_sleeping",
    "pause",
    "resume",
    "is_paused",
    "pause_generation",
    "continue_generation",
    "start_profile",
    "stop_profile",
    "profile",
    "reset_prefix_cache",
    "reset_mm_cache",
    "reset_encoder_cache",
    "flush_cache",
    "clear_hicache_storage_backend",
    "collective_rpc",
    "abort_request",
    "abort_requests",
    "scale_elastic_ep",
    "is_scaling_elastic_ep",
    "server_info",
    "get_server_info",
    "set_internal_state",
    "get_internal_state",
    "release_memory_occupation",
    "resume_memory_occupation",
    "configure_logging",
    "freeze_gc",
    "admin",
    "metrics",
    "debug",
    "config",
    "shutdown",
    "restart",
    "slots",
    "lora-adapters",
    "kv_cache_events",
    "perf_metrics",
    "invocations",
    "init_weights_update_group",
    "destroy_weights_update_group",
    "init_weights_send_group_for_remote_instance",
    "send_weights_to_remote_instance",
    "start_weight_update",
    "finish_weight_update",
    "dump_expert_distribution",
    "start_expert_distribution_record",
    "stop_expert_distribution_record",
};
constexpr bytes_view internal_starts[] = {"update_weight", "get_weight", "init_weight", "update_config"};

bool internal_segment(bytes_view segment) {
  const auto same = [&](bytes_view word) { return iequals(segment, word); };
  const auto begins = [&](bytes_view start) { return iequals(segment.substr(0, start.size()), start); };
  return std::any_of(std::begin(internal_words), std::end(internal_words), same) ||
         std::any_of(std::begin(internal_starts), std::end(internal_starts), begins);
}

// A path under /v1/ that nobody here knows by name: plain segments, none of them engine-internal.
bool may_pass(bytes_view path) {
  if (path.substr(0, 4) != "/v1/" || path.size() == 4 || path.back() == '/') return false;
  if (path.substr(0, models_prefix.size()) == models_prefix) return false;
  for (bytes_view rest = path.substr(4); !rest.empty();) {
    const std::size_t slash = rest.find('/');
    const bytes_view segment = rest.substr(0, slash);
    if (!chars::all(chars::unreserved, segment) || internal_segment(segment)) return false;
    rest.remove_prefix(slash == bytes_view::npos ? rest.size() : slash + 1);
  }
  return true;
}

const named_path* find_named(bytes_view path) {
  for (const named_path& p : named_paths) {
    if (p.path == path) return &p;
  }
  return nullptr;
}

bool read_by_get(api_kind api) {
  return api == api_kind::models || api == api_kind::model || api == api_kind::health;
}

// What a path means, whatever the method. `listed`: an exact entry of the configuration or of the table,
// so that a wrong method is 405 and not 404.
struct known_path {
  bool known = false, listed = false;
  api_kind api = api_kind::passthrough;
};

known_path look_up(bytes_view path, const std::vector<std::string>& passthrough) {
  if (const named_path* p = find_named(path)) return {true, true, p->api};
  if (path.size() > models_prefix.size() && path.substr(0, models_prefix.size()) == models_prefix) {
    return {true, true, api_kind::model};
  }
  const bool listed = std::find(passthrough.begin(), passthrough.end(), path) != passthrough.end();
  return {listed || may_pass(path), listed, api_kind::passthrough};
}

// A POST's kind by its body, or why not.
std::variant<api_kind, api_error> check_body(const request_head& head, const known_path& path) {
  if (body_is_encoded(head.fields))
    return refusal(reason::unsupported_encoding, "Content-Encoding is not supported");
  const media_type type = media_type_of(head.fields);
  if (type == media_type::json) return path.api;
  if (type == media_type::multipart && path.api == api_kind::passthrough) return api_kind::multipart;
  if (type == media_type::missing) return refusal(reason::unsupported_media_type, "Content-Type is missing");
  return refusal(reason::unsupported_media_type, "this Content-Type is not supported");
}

std::string lower_case(bytes_view s) {
  std::string out(s);
  for (char& c : out) c = chars::lower(c);
  return out;
}

// Rules for every request whose path is known.
std::variant<std::monostate, api_error> check_fields(const request_head& head) {
  for (const field& f : head.fields) {
    // RFC 9110 10.1.1: HTTP/1.0 knows no expectations.
    if (head.minor_version == 1 && kind_of(f) == field_kind::expect && !iequals(f.value, "100-continue"))
      return refusal(reason::expectation_failed, "this expectation cannot be met");
  }
  if (const field* f = find(head.fields, field_kind::refused)) {
    return refusal(reason::field_not_allowed, "this header steers engines and is not taken from clients",
                   lower_case(f->name));
  }
  return std::monostate{};
}

}  // namespace

std::variant<route, api_error> find_route(const request_head& head,
                                          const std::vector<std::string>& passthrough) {
  if (head.method == "CONNECT") return refusal(reason::not_implemented, "CONNECT is not supported");
  const auto split = split_target(head.target);
  if (const auto* e = std::get_if<api_error>(&split)) return *e;
  const auto& parts = std::get<target_parts>(split);
  const bool options = head.method == "OPTIONS";
  known_path path;
  if (parts.path == "*") {
    path.known = path.listed = options;
  } else {
    path = look_up(parts.path, passthrough);
  }
  const bool post = head.method == "POST";
  const bool get = head.method == "GET" || head.method == "HEAD";
  if (!path.known || (!path.listed && !post && !options)) {
    return refusal(reason::not_found, "there is no such path here");
  }
  if (!options && (read_by_get(path.api) ? !get : !post)) {
    return refusal(reason::method_not_allowed, "this path does not know this method");
  }
  const auto fields = check_fields(head);
  if (const auto* e = std::get_if<api_error>(&fields)) return *e;
  route out;
  out.api = options ? api_kind::options : path.api;
  if (post) {
    const auto kind = check_body(head, path);
    if (const auto* e = std::get_if<api_error>(&kind)) return *e;
    out.api = std::get<api_kind>(kind);
  }
  out.path = path.api == api_kind::model ? percent_decoded(parts.path) : std::string(parts.path);
  out.query = parts.query;
  if (path.api == api_kind::model) out.model_id = out.path.substr(models_prefix.size());
  return out;
}

named_call name_call(bytes_view target, const std::vector<std::string>& passthrough) {
  const auto split = split_target(target);
  const auto* parts = std::get_if<target_parts>(&split);
  if (parts == nullptr) return {target.substr(0, target.find('?'))};
  const known_path known = look_up(parts->path, passthrough);
  return {parts->path, known.known ? known.api : api_kind::unknown};
}

std::string_view allowed_methods(bytes_view path, const std::vector<std::string>& passthrough) {
  if (path == "*") return "GET, HEAD, POST, OPTIONS";
  const known_path known = look_up(path, passthrough);
  if (!known.known) return {};
  return read_by_get(known.api) ? allow_get : allow_post;
}

}  // namespace penstock::http
