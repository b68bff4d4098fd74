#include "emulator/server/request.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "emulator/server/prompt_reader.hpp"

namespace penstock::emulator {
namespace {

using simdjson::dom::element;

std::string pydantic(std::string_view kind, std::string_view where, std::string_view what,
                     std::string_view input) {
  return fmt::format("1 validation error:\n  {{'type': '{}', 'loc': '{}', 'msg': '{}', 'input': {}}}", kind,
                     where, what, input);
}

api_failure missing(std::string_view field, std::size_t members) {
  const std::string where = fmt::format("body.{}", field);
  return {400, pydantic("missing", where, "Field required", fmt::format("'<dict of {} items>'", members)),
          "Bad Request", where};
}

// Python writes a float with a point.
std::string python_float(double v) {
  return v == std::floor(v) && std::abs(v) < 1e15 ? fmt::format("{:.1f}", v) : fmt::format("{}", v);
}

std::string parameter_error(std::string_view text, std::string_view name, std::string_view value) {
  return fmt::format("{} (parameter={}, value={})", text, name, value);
}

// Reads members of one body; remembers the first complaint.
class reader {
 public:
  explicit reader(const simdjson::dom::object& body) : body_(body) {}

  std::optional<element> find(std::string_view key) const {
    element e;
    if (body_.at_key(key).get(e) != simdjson::SUCCESS || e.is_null()) return std::nullopt;
    return e;
  }

  double number(std::string_view key, double otherwise) {
    const auto e = find(key);
    if (!e) return otherwise;
    double v = 0;
    if (e->get(v) == simdjson::SUCCESS) return v;
    wrong_type(key, *e, "float_parsing",
               "Input should be a valid number, unable to parse string as a number");
    return otherwise;
  }

  std::int64_t integer(std::string_view key, std::int64_t otherwise) {
    const auto e = find(key);
    if (!e) return otherwise;
    std::int64_t v = 0;
    if (e->get(v) == simdjson::SUCCESS) return v;
    wrong_type(key, *e, "int_parsing",
               "Input should be a valid integer, unable to parse string as an integer");
    return otherwise;
  }

  bool flag(std::string_view key, bool otherwise) {
    const auto e = find(key);
    if (!e) return otherwise;
    bool v = false;
    if (e->get(v) == simdjson::SUCCESS) return v;
    wrong_type(key, *e, "bool_parsing", "Input should be a valid boolean, unable to interpret input");
    return otherwise;
  }

  std::string string(std::string_view key) {
    const auto e = find(key);
    if (!e) return {};
    std::string_view v;
    if (e->get(v) == simdjson::SUCCESS) return std::string(v);
    wrong_type(key, *e, "string_type", "Input should be a valid string");
    return {};
  }

  std::string raw(std::string_view key, std::string_view otherwise) const {
    const auto e = find(key);
    return e ? std::string(simdjson::minify(*e)) : std::string(otherwise);
  }

  void complain(api_failure f) {
    if (!failure_) failure_ = std::move(f);
  }
  const std::optional<api_failure>& failure() const { return failure_; }
  std::size_t members() const { return body_.size(); }
  const simdjson::dom::object& body() const { return body_; }

 private:
  void wrong_type(std::string_view key, const element& e, std::string_view kind, std::string_view what) {
    std::string_view text;
    const std::string input =
        e.get(text) == simdjson::SUCCESS ? fmt::format("'{}'", text) : std::string(simdjson::minify(e));
    const std::string where = fmt::format("body.{}", key);
    complain({400, pydantic(kind, where, what, input), "Bad Request", where});
  }

  simdjson::dom::object body_;
  std::optional<api_failure> failure_;
};

std::string_view required_field(engine_api api) {
  switch (api) {
    case engine_api::chat:
    case engine_api::messages: return "messages";
    case engine_api::completions: return "prompt";
    case engine_api::responses:
    case engine_api::embeddings: return "input";
    case engine_api::rerank: return "query";
    case engine_api::score:
    case engine_api::tokenize: return {};
  }
  return {};
}

void read_model(reader& in, const model_list& models, engine_request& r) {
  r.model = in.string("model");
  if (r.model.empty()) {
    r.model = models.names.front();
  } else if (!models.knows(r.model)) {
    in.complain(unknown_model(r.model, models));
  }
  if (models.is_adapter(r.model)) r.adapter = r.model;
}

void read_stop(reader& in, std::string_view key, engine_request& r) {
  const auto stop = in.find(key);
  if (!stop) return;
  std::string_view one;
  if (stop->get(one) == simdjson::SUCCESS) r.sampling.stop.emplace_back(one);
  simdjson::dom::array many;
  if (stop->get(many) != simdjson::SUCCESS) return;
  for (const element e : many) {
    if (e.get(one) == simdjson::SUCCESS) r.sampling.stop.emplace_back(one);
  }
}

void read_stream(reader& in, engine_request& r) {
  r.stream = in.flag("stream", false);
  const auto options = in.find("stream_options");
  if (!options) return;
  if (!r.stream) {
    in.complain({400, "Stream options can only be defined when `stream=True`. (parameter=stream_options)",
                 "BadRequestError", "stream_options"});
  }
  bool on = false;
  if ((*options)["include_usage"].get(on) == simdjson::SUCCESS) r.include_usage = on;
  if ((*options)["continuous_usage_stats"].get(on) == simdjson::SUCCESS)
    r.continuous_usage = on && r.include_usage;
}

void check_sampling(reader& in, engine_request& r) {
  const double temperature = in.number("temperature", 1);
  const double top_p = in.number("top_p", 1);
  const std::int64_t n = in.integer("n", 1);
  if (in.failure()) return;
  if (temperature < 0) {
    const std::string v = python_float(temperature);
    in.complain(
        {400, parameter_error(fmt::format("temperature must be non-negative, got {}.", v), "temperature", v),
         "BadRequestError", "temperature"});
  } else if (top_p <= 0 || top_p > 1) {
    const std::string v = python_float(top_p);
    in.complain({400, parameter_error(fmt::format("top_p must be in (0, 1], got {}.", v), "top_p", v),
                 "BadRequestError", "top_p"});
  } else if (n < 1) {
    in.complain({400, fmt::format("n must be at least 1, got {}.", n), "BadRequestError", ""});
  } else if (n > 128) {
    in.complain({400, fmt::format("n must be at most 128, got {}.", n), "BadRequestError", ""});
  }
  r.n = static_cast<std::uint32_t>(std::clamp<std::int64_t>(n, 1, 128));
  r.temperature = python_float(temperature);
  r.top_p = python_float(top_p);
}

// How long the answer may be. A limit that is not given is what the model's length leaves.
void read_limits(reader& in, const model_list& models, engine_request& r) {
  const std::string_view key = r.api == engine_api::responses ? "max_output_tokens"
                               : r.api == engine_api::chat && in.find("max_completion_tokens")
                                   ? "max_completion_tokens"
                                   : "max_tokens";
  const std::int64_t given = in.integer(key, r.api == engine_api::completions ? 16 : -1);
  const std::int64_t least = in.integer("min_tokens", 0);
  r.sampling.ignore_eos = in.flag("ignore_eos", false);
  if (in.failure()) return;
  std::size_t longest = 0;
  for (const auto& p : r.prompts) longest = std::max(longest, p.size());
  const std::int64_t room = std::int64_t{models.max_len} - static_cast<std::int64_t>(longest);
  if (given == 0 || given < -1) {
    return in.complain({400,
                        parameter_error(fmt::format("max_tokens must be at least 1, got {}.", given),
                                        "max_tokens", std::to_string(given)),
                        "BadRequestError", "max_tokens"});
  }
  if (given > models.max_len) {
    return in.complain(
        {400,
         parameter_error(
             fmt::format(
                 "max_tokens={} cannot be greater than max_model_len={}. Please request fewer output tokens.",
                 given, models.max_len),
             "max_tokens", std::to_string(given)),
         "BadRequestError", "max_tokens"});
  }
  if (room <= 0 || given > room) {
    const std::string what =
        room <= 0
            ? "This model's maximum context length is {0} tokens. However, your prompt contains at least {1} "
              "input tokens, which exceeds this limit even without any output tokens. Please reduce the "
              "length of the input prompt."
            : "This model's maximum context length is {0} tokens. However, you requested {2} output tokens "
              "and your prompt contains at least {1} input tokens, for a total of at least {3} tokens. "
              "Please reduce the length of the input prompt or the number of requested output tokens.";
    const std::size_t shown = room <= 0 ? std::size_t{models.max_len} + 1 : longest;
    const std::string message = fmt::format(fmt::runtime(what), models.max_len, shown, given,
                                            static_cast<std::int64_t>(longest) + given);
    return in.complain({400, parameter_error(message, "input_tokens", std::to_string(shown)),
                        "BadRequestError", "input_tokens"});
  }
  r.max_tokens = static_cast<std::uint32_t>(given == -1 ? room : given);
  r.sampling.max_tokens = r.max_tokens;
  r.sampling.min_tokens = static_cast<std::uint32_t>(std::clamp<std::int64_t>(least, 0, r.max_tokens));
  if (r.api == engine_api::responses) r.max_output_tokens = std::to_string(r.max_tokens);
}

void read_generation(reader& in, const model_list& models, engine_request& r) {
  read_stream(in, r);
  check_sampling(in, r);
  read_stop(in, r.api == engine_api::messages ? "stop_sequences" : "stop", r);
  r.tool = choose_tool(in.body(), r.api);
  r.instructions = in.raw("instructions", "null");
  r.metadata = in.raw("metadata", "null");
  r.tools = in.raw("tools", "[]");
  r.tool_choice = in.raw("tool_choice", r.tools == "[]" ? "\"none\"" : "\"auto\"");
  r.previous = in.raw("previous_response_id", "null");
  if (r.prompts.size() * r.n > 4096)
    in.complain({400, "Too many prompts in one request.", "BadRequestError", "prompt"});
  if (!in.failure()) read_limits(in, models, r);
}

void read_body(reader& in, const model_list& models, const response_memory& memory, engine_request& r) {
  if (const std::string_view field = required_field(r.api); !field.empty() && !in.find(field)) {
    return in.complain(missing(field, in.members()));
  }
  if (r.api == engine_api::messages && !in.find("max_tokens"))
    return in.complain(missing("max_tokens", in.members()));
  const bool generates = r.api <= engine_api::messages;
  if (generates) {  // wrong types are found before the model is looked up
    in.number("temperature", 1);
    in.integer("n", 1);
    in.flag("stream", false);
  }
  if (in.failure()) return;
  read_model(in, models, r);
  r.cache_salt = in.string("cache_salt");
  r.base64_vectors = in.string("encoding_format") == "base64";
  prompt_context context{r.api, memory};
  if (auto failure = read_prompts(in.body(), context, r); failure) in.complain(std::move(*failure));
  if (r.api == engine_api::tokenize) r.max_tokens = models.max_len;
  if (!in.failure() && generates) read_generation(in, models, r);
}

}  // namespace

bool model_list::knows(std::string_view model) const {
  return std::find(names.begin(), names.end(), model) != names.end() || is_adapter(model);
}

bool model_list::is_adapter(std::string_view model) const {
  return std::find(adapters.begin(), adapters.end(), model) != adapters.end();
}

api_failure unknown_model(std::string_view model, const model_list& models) {
  std::string known;
  for (const std::string& m : models.names) known += (known.empty() ? "" : ", ") + m;
  for (const std::string& m : models.adapters) known += ", " + m;
  return {404, fmt::format("The model `{}` does not exist. Valid aliases: {}.", model, known),
          "NotFoundError", "model"};
}

std::variant<engine_request, api_failure> parse_request(engine_api api, std::string_view body,
                                                        const model_list& models,
                                                        const response_memory& memory) {
  simdjson::dom::parser parser;
  const simdjson::padded_string padded(body);
  simdjson::dom::object object;
  if (parser.parse(padded).get(object) != simdjson::SUCCESS) {
    const std::string where = fmt::format("body.{}", body.size());
    return api_failure{
        400,
        fmt::format("1 validation error:\n  {{'type': 'json_invalid', 'loc': '{}', 'msg': 'JSON decode "
                    "error', 'input': '<dict of 0 items>', 'ctx': {{'error': 'Expecting value'}}}}",
                    where),
        "Bad Request", where};
  }
  engine_request r;
  r.api = api;
  reader in(object);
  read_body(in, models, memory, r);
  if (in.failure()) return *in.failure();
  return r;
}

bool is_poison(std::string_view body) {
  if (body.find("do_remote_prefill") == std::string_view::npos) return false;
  simdjson::dom::parser parser;
  const simdjson::padded_string padded(body);
  simdjson::dom::element root;
  bool asked = false;
  return parser.parse(padded).get(root) == simdjson::SUCCESS &&
         root["kv_transfer_params"]["do_remote_prefill"].get(asked) == simdjson::SUCCESS && asked;
}

std::variant<std::string, api_failure> detokenize_request(std::string_view body, const model_list& models) {
  simdjson::dom::parser parser;
  const simdjson::padded_string padded(body);
  simdjson::dom::object object;
  if (parser.parse(padded).get(object) != simdjson::SUCCESS) {
    return api_failure{400, "1 validation error:\n  {'type': 'json_invalid'}", "Bad Request", "body"};
  }
  reader in(object);
  engine_request r;
  read_model(in, models, r);
  const auto given = in.find("tokens");
  if (!given) in.complain(missing("tokens", in.members()));
  simdjson::dom::array ids;
  std::vector<token_id> tokens;
  if (given && given->get(ids) == simdjson::SUCCESS) {
    for (const element e : ids) {
      std::uint64_t id = 0;
      if (e.get(id) == simdjson::SUCCESS) tokens.push_back(static_cast<token_id>(id));
    }
  }
  if (in.failure()) return *in.failure();
  return detokenize(tokens);
}

std::string multipart_field(std::string_view content_type, std::string_view body, std::string_view field) {
  const std::size_t at = content_type.find("boundary=");
  if (at == std::string_view::npos) return {};
  std::string_view mark = content_type.substr(at + 9);
  mark = mark.substr(0, mark.find(';'));
  if (mark.size() >= 2 && mark.front() == '"') mark = mark.substr(1, mark.size() - 2);
  const std::string boundary = "--" + std::string(mark);
  const std::string wanted = fmt::format("name=\"{}\"", field);
  for (std::size_t part = body.find(boundary); part != std::string_view::npos;
       part = body.find(boundary, part + 1)) {
    const std::size_t head_end = body.find("\r\n\r\n", part);
    if (head_end == std::string_view::npos) return {};
    if (body.substr(part, head_end - part).find(wanted) == std::string_view::npos) continue;
    const std::size_t end = body.find("\r\n" + boundary, head_end);
    return std::string(body.substr(head_end + 4, end == std::string_view::npos ? end : end - head_end - 4));
  }
  return {};
}

}  // namespace penstock::emulator
