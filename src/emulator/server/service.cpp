#include "emulator/server/service.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iterator>
#include <variant>

#include "emulator/server/json_text.hpp"

namespace penstock::emulator {
namespace {

constexpr std::string_view json_type = "application/json";
constexpr std::string_view not_found = R"({"detail":"Not Found"})";
constexpr std::size_t remembered_responses = 1024;

enum class action : std::uint8_t { generate, detokenize, transcribe, reset_cache, get };

struct api_path {
  std::string_view path;
  action does;
  engine_api api = engine_api::chat;
};
constexpr api_path paths[] = {
    {"/v1/chat/completions", action::generate, engine_api::chat},
    {"/invocations", action::generate, engine_api::chat},
    {"/v1/completions", action::generate, engine_api::completions},
    {"/v1/responses", action::generate, engine_api::responses},
    {"/v1/messages", action::generate, engine_api::messages},
    {"/v1/embeddings", action::generate, engine_api::embeddings},
    {"/v1/rerank", action::generate, engine_api::rerank},
    {"/v2/rerank", action::generate, engine_api::rerank},
    {"/rerank", action::generate, engine_api::rerank},
    {"/v1/score", action::generate, engine_api::score},
    {"/score", action::generate, engine_api::score},
    {"/tokenize", action::generate, engine_api::tokenize},
    {"/detokenize", action::detokenize},
    {"/v1/audio/transcriptions", action::transcribe},
    {"/v1/audio/translations", action::transcribe},
    {"/reset_prefix_cache", action::reset_cache},
    {"/v1/models", action::get},
    {"/health", action::get},
    {"/ping", action::get},
    {"/version", action::get},
    {"/load", action::get},
    {"/metrics", action::get},
};

model_list models_of(const engine_options& o, const engine_settings& s) {
  model_list m{o.models, o.adapters, o.max_model_len};
  if (m.names.empty()) m.names.emplace_back("emulated");
  const std::uint64_t room = std::max<std::uint64_t>(1, s.kv_tokens / s.block_tokens) * s.block_tokens;
  const std::uint64_t most = m.max_len > 0 ? m.max_len : 131072;
  m.max_len = static_cast<std::uint32_t>(std::min(room, most));
  return m;
}

}  // namespace

service::service(boost::asio::io_context& context, const engine_options& options,
                 const engine_settings& settings)
    : options_(options),
      models_(models_of(options, settings)),
      core_(context, settings),
      random_(options.seed),
      ids_(options.seed),
      log_(options.log_requests),
      started_(std::time(nullptr)) {
  if (options.hand_off.connector != connector_kind::none)
    kv_ = std::make_unique<kv_agent>(context, core_, options_.hand_off);
}

void service::listens_on(std::uint16_t port) {
  ids_ = prng(options_.seed * 65536 + port);
  if (!kv_) return;
  // An engine that comes back on its port is another one: its old hand-offs are worth nothing.
  prng start(ids_.next() ^
             static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()));
  const std::uint64_t high = start.next(), low = start.next();
  const std::string& given = options_.hand_off.engine_id;
  kv_->start(options_.host == "localhost" ? "127.0.0.1" : options_.host,
             !given.empty()
                 ? given
                 : fmt::format("{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}", high >> 32, (high >> 16) & 0xffff,
                               high & 0xfff, low >> 52, low & 0xffffffffffff));
}

void service::stop() {
  if (kv_) kv_->stop();
  core_.stop();
}

bool service::refuses() const {
  return std::any_of(options_.faults.begin(), options_.faults.end(), [](auto& r) { return r.refuse; });
}

bool service::resets_next_accept() {
  bool reset = false;
  for (fault_rule& r : options_.faults) {
    if (r.reset_accept && hits(r, random_)) reset = true;
  }
  return reset;
}

// Switches hit POSTs of the API; a header hits whatever carries it.
void service::apply_rules(const engine_call& call, leg_kind leg, fault_plan& plan, std::string& error) {
  if (call.method == "POST" && !call.target.starts_with("/debug")) {
    for (fault_rule& r : options_.faults) {
      if (!concerns(r, leg) || !hits(r, random_)) continue;
      for (const std::string& a : r.actions) apply_faults(a, plan, leg);
    }
  }
  error = apply_faults(call.faults, plan, leg);
}

leg_reading service::leg_of(const engine_call& call) const {
  if (!kv_ || call.method != "POST") return {};
  const auto found = std::find_if(std::begin(paths), std::end(paths), [&](auto& p) {
    return p.path == std::string_view(call.target).substr(0, call.target.find('?'));
  });
  if (found == std::end(paths) || found->does != action::generate) return {};
  return read_leg(kv_->options(), found->api, call.body, call.dp_rank);
}

// An id that the proxy minted twice: the first hand-off of that name is still under way.
std::optional<api_failure> service::taken(const hand_off_leg& leg) const {
  if (leg.kind != leg_kind::prefill) return std::nullopt;
  const bool room = kv_->options().connector == connector_kind::sglang;
  const std::string field = room ? "bootstrap_room" : "kv_transfer_params.transfer_id";
  for (const std::string& id : leg.ids) {
    if (kv_->source().in_use(id))
      return api_failure{400, fmt::format("`{}` {} is in use (parameter={})", field, id, field),
                         "BadRequestError", field};
  }
  return std::nullopt;
}

engine_reply service::handle(engine_call call, const framing& how, wire& out, std::function<void()> flush) {
  engine_reply reply;
  if (call.method != "GET" && call.method != "HEAD" && !call.target.starts_with("/debug")) {
    reply.log_id = log_.add({0, call.method, call.target, call.head, call.body, 0, outcome::open, 0});
  }
  std::string error;
  const leg_reading leg = leg_of(call);
  apply_rules(call, leg.leg.kind, reply.plan, error);
  framer f(out, how, reply.plan);
  if (!error.empty()) {
    reply.plan = fault_plan{};
    reply.ended = outcome::refused;
    f.whole(400, json_type, "",
            error_body(engine_api::chat,
                       {400, "x-emulator-fault: " + error, "BadRequestError", "x-emulator-fault"}));
    return reply;
  }
  const fault_plan& plan = reply.plan;
  if (plan.reset || plan.close || plan.garbage || plan.status != 0) {
    reply.ended = outcome::broken;
    if (plan.reset) {
      f.finish(wire::ending::reset);
    } else if (plan.close) {
      f.finish(wire::ending::close);
    } else if (plan.garbage) {
      f.garbage();
    } else {
      const std::string retry =
          plan.retry_after > 0 ? fmt::format("retry-after: {}\r\n", plan.retry_after) : std::string{};
      const bool anthropic = call.target.starts_with("/v1/messages");
      f.whole(plan.status, json_type, retry,
              error_body(anthropic ? engine_api::messages : engine_api::chat,
                         {plan.status, "This engine was told to fail.", "EmulatedFault", ""}));
    }
    return reply;
  }
  respond(call, leg, how, out, flush, reply);
  return reply;
}

void service::respond(const engine_call& call, const leg_reading& leg, const framing& how, wire& out,
                      const std::function<void()>& flush, engine_reply& reply) {
  framer f(out, how, reply.plan);
  const std::string_view path = std::string_view(call.target).substr(0, call.target.find('?'));
  if (path.starts_with("/debug/")) return debug(call, path, f);
  const auto found =
      std::find_if(std::begin(paths), std::end(paths), [&](auto& p) { return p.path == path; });
  reply.ended = outcome::refused;
  if (found == std::end(paths)) return f.whole(404, json_type, "", not_found);
  const bool reads = found->does == action::get;
  if (call.method != (reads ? "GET" : "POST") && !(path == "/ping" && call.method == "POST")) {
    const std::string_view allow = reads ? "allow: GET\r\n" : "allow: POST\r\n";
    return f.whole(405, json_type, allow, R"({"detail":"Method Not Allowed"})");
  }
  switch (found->does) {
    case action::generate: return generate(found->api, call, leg, how, out, flush, reply, f);
    case action::detokenize: return detokenize(call, f, reply);
    case action::transcribe: return transcribe(call, f, reply);
    case action::reset_cache:
      core_.reset_prefix_cache();
      reply.ended = outcome::finished;
      return f.whole(200, "", "", "");
    case action::get: return get(call, path, f);
  }
}

void service::get(const engine_call&, std::string_view path, framer& f) {
  const auto has = [&](auto member) {
    return std::any_of(options_.faults.begin(), options_.faults.end(), [&](auto& r) { return r.*member; });
  };
  if (path == "/v1/models") return f.whole(200, json_type, "", models_json());
  if (path == "/version") return f.whole(200, json_type, "", R"({"version":"0.32.0"})");
  if (path == "/load") {
    const engine_counters c = core_.counters();
    return f.whole(200, json_type, "", fmt::format(R"({{"server_load":{}}})", c.running + c.waiting));
  }
  if (path == "/metrics") {
    const bool bad = has(&fault_rule::bad_metrics);
    return f.whole(
        200, "text/plain; version=1.0.0; charset=utf-8", "",
        bad ? "vllm:num_requests_running{ NaN\nvllm:kv_cache_usage_perc -1e308\n\x01\xff" : metrics_text());
  }
  return f.whole(has(&fault_rule::unhealthy) ? 503 : 200, "", "", "");
}

void service::debug(const engine_call& call, std::string_view path, framer& f) {
  if (path == "/debug/faults") {
    if (call.method == "POST") return replace_faults(call, f);
    std::string text;
    for (const fault_rule& r : options_.faults) text += r.text + "\n";
    return f.whole(200, "text/plain", "", text);
  }
  if (path == "/debug/leases" && kv_)
    return f.whole(200, json_type, "", kv_->leases_json(core_.counters(), core_.now()));
  if (path == "/debug/body") return f.whole(200, "application/octet-stream", "", log_.last_body());
  if (path != "/debug/requests") return f.whole(404, json_type, "", not_found);
  if (call.method == "DELETE") log_.clear();
  const engine_counters c = core_.counters();
  f.whole(200, json_type, "",
          log_.json(fmt::format(R"(,"running":{},"waiting":{},"connections":{},"accepted":{})", c.running,
                                c.waiting, connections, accepted)));
}

void service::replace_faults(const engine_call& call, framer& f) {
  std::vector<fault_rule> rules;
  std::string_view rest = call.body;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    if (line.empty()) continue;
    if (std::string error = parse_fault_rule(line, rules.emplace_back()); !error.empty()) {
      return f.whole(400, json_type, "", error_body(engine_api::chat, {400, error, "BadRequestError", ""}));
    }
  }
  options_.faults = std::move(rules);
  f.whole(200, "", "", "");
  if (faults_changed_) faults_changed_();
}

std::string service::mint_id(std::string_view asked) {
  return asked.empty() ? fmt::format("{:016x}", ids_.next()) : std::string(asked);
}

void service::generate(engine_api api, const engine_call& call, const leg_reading& leg, const framing& how,
                       wire& out, const std::function<void()>& flush, engine_reply& reply, framer& f) {
  const std::string_view type = std::string_view(call.content_type).substr(0, call.content_type.find(';'));
  std::variant<engine_request, api_failure> parsed;
  if (type != "application/json") {
    parsed =
        api_failure{400, "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed",
                    "Bad Request", ""};
  } else {
    parsed = parse_request(api, call.body, models_, [this](std::string_view id) {
      const auto r =
          std::find_if(responses_.begin(), responses_.end(), [&](auto& x) { return x.first == id; });
      return r == responses_.end() ? std::vector<token_id>{} : r->second;
    });
  }
  if (const auto* failure = std::get_if<api_failure>(&parsed)) {
    return f.whole(failure->status, json_type, "", error_body(api, *failure));
  }
  if (kv_ ? leg.deadly : is_poison(call.body)) {  // vLLM 0.32.0 fails an assertion and exits
    reply.ended = outcome::broken;
    return f.finish(wire::ending::reset);
  }
  if (leg.failure) return f.whole(leg.failure->status, json_type, "", error_body(api, *leg.failure));
  if (const auto failure = kv_ ? taken(leg.leg) : std::nullopt)
    return f.whole(failure->status, json_type, "", error_body(api, *failure));
  engine_request& request = std::get<engine_request>(parsed);
  bool asked_for_more = false;
  const connector_kind connector = options_.hand_off.connector;
  if (leg.leg.kind == leg_kind::prefill &&
      (connector == connector_kind::sglang || connector == connector_kind::trtllm)) {
    // They are asked for everything and make one token of it.
    asked_for_more = request.max_tokens > 1 && connector == connector_kind::trtllm;
    request.max_tokens = request.sampling.max_tokens = 1;
  }
  if (!leg.leg.prompt.empty()) request.prompts = {leg.leg.prompt};
  reply.adapter = request.adapter;
  if (api == engine_api::tokenize) {
    reply.ended = outcome::finished;
    return f.whole(200, json_type, "", make_shape(request, {})->whole({}, {}));
  }
  const std::uint64_t seed = hash_text(request.adapter, hash_text(request.cache_salt, 2));
  reply.ended = outcome::open;
  if (!reply.adapter.empty()) ++adapters_running_[reply.adapter];
  exchange_setup setup{
      core_,
      std::move(request),
      reply.plan,
      how,
      {mint_id(call.request_id), static_cast<std::int64_t>(std::time(nullptr)),
       options_.prompt_tokens_details},
      seed,
      flush,
      [this](const std::string& id, std::vector<token_id> tokens) { remember(id, std::move(tokens)); },
      kv_.get(),
      leg.leg,
      asked_for_more};
  reply.running = std::make_unique<exchange>(std::move(setup), out);
}

void service::ended(const engine_reply& reply, std::uint16_t status, outcome how, std::uint32_t tokens) {
  if (!reply.adapter.empty()) --adapters_running_[reply.adapter];
  if (reply.log_id != 0) log_.end(reply.log_id, status, how, tokens);
}

void service::remember(const std::string& id, std::vector<token_id> tokens) {
  responses_.emplace_back(id, std::move(tokens));
  if (responses_.size() > remembered_responses) responses_.pop_front();
}

void service::detokenize(const engine_call& call, framer& f, engine_reply& reply) {
  const auto parsed = detokenize_request(call.body, models_);
  if (const auto* failure = std::get_if<api_failure>(&parsed)) {
    return f.whole(failure->status, json_type, "", error_body(engine_api::chat, *failure));
  }
  reply.ended = outcome::finished;
  f.whole(200, json_type, "", fmt::format(R"({{"prompt":{}}})", quote(std::get<std::string>(parsed))));
}

// The "transcript" depends on the audio's bytes alone; a second of it is taken as 32 KB.
void service::transcribe(const engine_call& call, framer& f, engine_reply& reply) {
  const std::string model = multipart_field(call.content_type, call.body, "model");
  if (!model.empty() && !models_.knows(model)) {
    const api_failure failure = unknown_model(model, models_);
    return f.whole(failure.status, json_type, "", error_body(engine_api::chat, failure));
  }
  const std::string file = multipart_field(call.content_type, call.body, "file");
  if (file.empty()) {
    return f.whole(400, json_type, "",
                   error_body(engine_api::chat, {400,
                                                 "1 validation error:\n  {'type': 'missing', 'loc': "
                                                 "'body.file', 'msg': 'Field required', 'input': None}",
                                                 "Bad Request", "body.file"}));
  }
  reply.ended = outcome::finished;
  prompt_builder prompt;
  prompt.media(file);
  answer_request wanted;
  wanted.max_tokens = 16;
  const answer a = make_answer(prompt.take(), wanted);
  f.whole(200, json_type, "",
          fmt::format(R"({{"text":{},"usage":{{"type":"duration","seconds":{}}}}})", quote(a.text),
                      1 + file.size() / 32000));
}

std::string service::models_json() const {
  const auto entry = [&](const std::string& id, const std::string& root, const std::string& parent,
                         std::uint32_t length) {
    return fmt::format(

        R"({{"id":{},"object":"model","created":{},"owned_by":"vllm","root":{},"parent":{},)"
        R"("max_model_len":{},"permission":[{{"id":"modelperm-{:016x}","object":"model_permission",)"
        R"("created":{},"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,)"
        R"("allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,)"
        R"("organization":"*","group":null,"is_blocking":false}}]}})",
        quote(id), started_, quote(root), quote_or_null(parent), length > 0 ? std::to_string(length) : "null",
        hash_text(id, 0), started_);
  };
  std::string text = R"({"object":"list","data":[)";
  for (const std::string& m : models_.names)
    text += (text.back() == '[' ? "" : ",") + entry(m, models_.names.front(), "", models_.max_len);
  for (const std::string& a : models_.adapters)
    text += "," + entry(a, "/adapters/" + a, models_.names.front(), 0);
  return text + "]}";
}

std::string service::metrics_text() {
  const engine_counters c = core_.counters();
  const engine_settings& s = core_.settings();
  const std::string labels = fmt::format(R"({{engine="0",model_name={}}})", quote(models_.names.front()));
  std::string text;
  const auto add = [&](std::string_view name, std::string_view type, std::string_view help, auto value) {
    fmt::format_to(std::back_inserter(text), "# HELP {0} {1}\n# TYPE {0} {2}\n{0}{3} {4}\n", name, help, type,
                   labels, static_cast<double>(value));
  };
  const auto add_waiting = [&](std::string_view reason, std::size_t requests) {
    fmt::format_to(std::back_inserter(text), "vllm:num_requests_waiting_by_reason{},reason=\"{}\"}} {}\n",
                   std::string_view(labels).substr(0, labels.size() - 1), reason, requests);
  };
  fmt::format_to(std::back_inserter(text),
                 "# HELP process_start_time_seconds Start time of the process since unix epoch in "
                 "seconds.\n# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {}.0\n",
                 started_);
  add("vllm:num_requests_running", "gauge", "Number of requests in model execution batches.", c.running);
  add("vllm:num_requests_waiting", "gauge", "Number of requests waiting to be processed.", c.waiting);
  text +=
      "# HELP vllm:num_requests_waiting_by_reason Number of waiting requests by reason.\n"
      "# TYPE vllm:num_requests_waiting_by_reason gauge\n";
  add_waiting("capacity", c.waiting - c.loading);
  add_waiting("deferred", c.loading);
  add("vllm:kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.",
      static_cast<double>(c.kv_blocks_used) / c.kv_blocks);
  add("vllm:prefix_cache_queries_total", "counter",
      "Prefix cache queries, in terms of number of queried tokens.", c.prefix_queries);
  add("vllm:prefix_cache_hits_total", "counter", "Prefix cache hits, in terms of number of cached tokens.",
      c.prefix_hits);
  add("vllm:num_preemptions_total", "counter", "Cumulative number of preemption from the engine.",
      c.preemptions);
  add("vllm:prompt_tokens_total", "counter", "Number of prefill tokens processed.", c.prompt_tokens);
  add("vllm:generation_tokens_total", "counter", "Number of generation tokens processed.",
      c.generated_tokens);
  if (kv_) text += kv_->metrics_text(c, labels);
  add("vllm:iterations_total", "counter", "Number of iterations of the emulated engine.", c.iterations);
  if (!models_.adapters.empty()) {
    std::string running;
    for (const auto& [name, count] : adapters_running_) {
      if (count > 0) running += (running.empty() ? "" : ",") + name;
    }
    fmt::format_to(
        std::back_inserter(text),
        "# HELP vllm:lora_requests_info Running stats on lora requests.\n# TYPE vllm:lora_requests_info "
        "gauge\nvllm:lora_requests_info{{max_lora=\"{}\",running_lora_adapters={},waiting_lora_adapters=\"\"}"
        "} {}.0\n",
        models_.adapters.size(), quote(running), std::time(nullptr));
  }
  fmt::format_to(
      std::back_inserter(text),
      "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n# TYPE vllm:cache_config_info "
      "gauge\n"
      "vllm:cache_config_info{{block_size=\"{}\",cache_dtype=\"auto\",enable_prefix_caching=\"{}\",engine="
      "\"0\",kv_cache_size_tokens=\"{}\",num_cpu_blocks=\"None\",num_gpu_blocks=\"{}\"}} 1.0\n",
      s.block_tokens, s.prefix_caching ? "True" : "False", std::uint64_t{c.kv_blocks} * s.block_tokens,
      c.kv_blocks);
  return text;
}

}  // namespace penstock::emulator
