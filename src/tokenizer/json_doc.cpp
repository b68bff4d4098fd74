#include "tokenizer/json_doc.hpp"

#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

#include "tokenizer/json_text.hpp"

namespace penstock::tokenizer {
namespace {

// Capacity that stays between requests: with its token index some 4 MiB.
constexpr std::size_t kept_capacity = std::size_t{1} << 20;
constexpr std::size_t least_capacity = std::size_t{16} << 10;

// Where the strings of a text that simdjson refused go wrong: a control character inside of one, or the
// opening quote of the one that never ends.
std::size_t string_fault(bytes_view text) {
  std::size_t opened = bytes_view::npos;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\') {
      ++i;  // as simdjson's first stage reads it, outside of strings too
    } else if (c == '"') {
      opened = opened == bytes_view::npos ? i : bytes_view::npos;
    } else if (opened != bytes_view::npos && static_cast<unsigned char>(c) < 0x20) {
      return i;
    }
  }
  return opened == bytes_view::npos ? text.size() : opened;
}

json_error stage_error(simdjson::error_code code, bytes_view body) {
  switch (code) {
    case simdjson::EMPTY: return {0, "it is empty"};
    case simdjson::UTF8_ERROR: return {first_invalid_utf8(body), "it is not UTF-8"};
    case simdjson::UNESCAPED_CHARS: return {string_fault(body), "a control character in a string"};
    case simdjson::UNCLOSED_STRING: return {string_fault(body), "a string without an end"};
    case simdjson::MEMALLOC: return {0, "it is too large for the memory left"};
    default: return {0, "it cannot be read"};
  }
}

}  // namespace

struct json_doc::memory {
  std::unique_ptr<simdjson::internal::dom_parser_implementation> parser;
  std::size_t capacity = 0;
  std::unique_ptr<index[]> past;
  std::size_t past_size = 0;

  // Room for an index a token; what stands in it is anything.
  index* jumps(std::size_t tokens) {
    if (tokens > past_size) {
      past_size = std::bit_ceil(tokens);
      past.reset(new index[past_size]);
    }
    return past.get();
  }

  bool reserve(std::size_t size) {
    if (parser && size <= capacity) return true;
    const std::size_t wanted =
        std::clamp(std::bit_ceil(size), least_capacity, std::size_t{simdjson::SIMDJSON_MAXSIZE_BYTES});
    parser.reset();
    capacity = 0;
    const auto error =
        simdjson::get_active_implementation()->create_dom_parser_implementation(wanted, 1, parser);
    if (error) return false;
    capacity = wanted;
    return true;
  }
};

json_doc::json_doc() : memory_(std::make_unique<memory>()) {}
json_doc::~json_doc() = default;

void json_doc::trim() {
  if (memory_->capacity <= kept_capacity) return;
  memory_->parser.reset();
  memory_->capacity = 0;
  memory_->past.reset();
  memory_->past_size = 0;
  text_ = nullptr;
  at_ = nullptr;
  past_ = nullptr;
  count_ = 0;
}

std::optional<json_error> json_doc::open(bytes_view body) {
  escape_overhead_ = 0;
  if (auto error = find_tokens(body)) return error;
  return check_grammar();
}

std::optional<json_error> json_doc::find_tokens(bytes_view body) {
  assert(body.size() < simdjson::SIMDJSON_MAXSIZE_BYTES);
  if (body.empty()) return stage_error(simdjson::EMPTY, body);
  if (!memory_->reserve(body.size())) return stage_error(simdjson::MEMALLOC, body);
  auto& parser = *memory_->parser;
  const auto code = parser.stage1(reinterpret_cast<const std::uint8_t*>(body.data()), body.size(),
                                  simdjson::stage1_mode::regular);
  if (code) return stage_error(code, body);
  text_ = body.data();
  size_ = body.size();
  at_ = parser.structural_indexes.get();
  count_ = parser.n_structural_indexes;
  if (count_ == 0) return stage_error(simdjson::EMPTY, body);
  past_ = memory_->jumps(count_);
  return std::nullopt;
}

// Why the scalar at token i is none, and where; nullptr when it is well formed.
const char* json_doc::scalar_fault(index i, std::size_t& offset) {
  const bytes_view t = token(i);
  offset = at_[i];
  switch (t[0]) {
    case '"': {
      // The first stage saw this string end; anything but a quote here is something glued to it.
      if (t.size() < 2 || t.back() != '"') return "a string with something after its end";
      const char* fault = check_escapes(t.data() + 1, t.data() + t.size() - 1, escape_overhead_);
      if (!fault) return nullptr;
      offset = static_cast<std::size_t>(fault - text_);
      return "an unknown escape in a string";
    }
    case 't': return t == "true" ? nullptr : "expected true";
    case 'f': return t == "false" ? nullptr : "expected false";
    case 'n': return t == "null" ? nullptr : "expected null";
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9': return is_json_number(t) ? nullptr : "a malformed number";
    default: return "expected a value";
  }
}

std::optional<json_error> json_doc::check_grammar() {
  enum class expect { value, first_value, key, first_key, colon, comma, nothing };
  std::array<bool, max_depth> in_object;
  std::array<index, max_depth> opened;
  std::size_t depth = 0;
  expect next = expect::value;
  if (kind(root) != '{') return json_error{at_[root], "expected an object"};

  for (index i = 0; i < count_; ++i) {
    const char c = kind(i);
    if ((c == '}' && (next == expect::first_key || (next == expect::comma && in_object[depth - 1]))) ||
        (c == ']' && (next == expect::first_value || (next == expect::comma && !in_object[depth - 1])))) {
      past_[opened[--depth]] = i + 1;
      next = depth == 0 ? expect::nothing : expect::comma;
      continue;
    }
    switch (next) {
      case expect::first_value:
      case expect::value:
        if (c == '{' || c == '[') {
          if (depth == max_depth) return json_error{at_[i], "it is nested deeper than 64"};
          opened[depth] = i;
          in_object[depth++] = c == '{';
          next = c == '{' ? expect::first_key : expect::first_value;
          break;
        }
        [[fallthrough]];
      case expect::first_key:
      case expect::key: {
        const bool is_key = next == expect::key || next == expect::first_key;
        if (is_key && c != '"') return json_error{at_[i], "expected a member's name"};
        std::size_t offset = 0;
        if (const char* fault = scalar_fault(i, offset)) return json_error{offset, fault};
        next = is_key ? expect::colon : expect::comma;
        break;
      }
      case expect::colon:
        if (c != ':') return json_error{at_[i], "expected a colon"};
        next = expect::value;
        break;
      case expect::comma:
        if (c != ',') {
          return json_error{at_[i], in_object[depth - 1] ? "expected , or }" : "expected , or ]"};
        }
        next = in_object[depth - 1] ? expect::key : expect::value;
        break;
      case expect::nothing: return json_error{at_[i], "something after the end of the object"};
    }
  }
  if (next != expect::nothing) return json_error{size_, "it ends too early"};
  return std::nullopt;
}

bytes_view json_doc::plain(index string, std::string& scratch) const {
  const bytes_view inside = raw(string);
  if (!has_escape(inside)) return inside;
  scratch.clear();
  unescape(inside, scratch);
  return scratch;
}

}  // namespace penstock::tokenizer
