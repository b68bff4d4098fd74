#include "proxy/http/shapes.hpp"

#include <charconv>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace penstock::http {
namespace {

void append_string(std::string& out, std::string_view text) {
  out += '"';
  append_json_escaped(out, text);
  out += '"';
}

void append_member(std::string& out, std::string_view name, std::string_view value) {
  append_string(out, name);
  out += ':';
  append_string(out, value);
}

void append_number(std::string& out, std::uint64_t n) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, n);
  out.append(digits, end.ptr);
}

std::string_view openai_type(const api_error& e) {
  const int status = status_of(e);
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  if (status == 429) return "rate_limit_error";
  const std::string_view type = traits(e.why).type;
  if (!type.empty()) return type;
  return status < 500 ? "invalid_request_error" : "server_error";
}

std::string_view anthropic_type(const api_error& e) {
  switch (status_of(e)) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 408:
    case 504: return "timeout_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503:
    case 529: return "overloaded_error";
    default: return status_of(e) < 500 ? "invalid_request_error" : "api_error";
  }
}

std::string_view message_of(const api_error& e) {
  return e.message.empty() ? traits(e.why).advice : e.message;
}

// The object that OpenAI's SDKs turn into their exceptions; all four members are required there.
void append_openai_error(std::string& out, const api_error& e) {
  out += "{\"error\":{";
  append_member(out, "message", message_of(e));
  out += ',';
  append_member(out, "type", openai_type(e));
  out += ",\"param\":";
  if (e.param.empty()) {
    out += "null";
  } else {
    append_string(out, e.param);
  }
  out += ',';
  append_member(out, "code", name(e.why));
  out += "}}";
}

void append_anthropic_error(std::string& out, const api_error& e, std::string_view request_id) {
  out += "{\"type\":\"error\",\"error\":{";
  append_member(out, "type", anthropic_type(e));
  out += ',';
  append_member(out, "message", message_of(e));
  out += "},\"request_id\":";
  if (request_id.empty()) {
    out += "null";
  } else {
    append_string(out, request_id);
  }
  out += '}';
}

// Required members of the Response object by OpenAI's API description 2.3.0; what only the engine knows
// is null or empty. error.code is one of a closed list there, so the reason goes into the message.
void append_failed_response(std::string& out, const api_error& e, std::string_view request_id,
                            const stream_tail& tail) {
  out += "{\"type\":\"response.failed\",\"sequence_number\":";
  append_number(out, tail.next_sequence);
  out += ",\"response\":{\"id\":\"";
  if (tail.response_id.empty()) {
    out += "resp_";
    append_json_escaped(out, request_id);
  } else {
    append_json_escaped(out, tail.response_id);
  }
  out += "\",\"object\":\"response\",\"created_at\":0,\"status\":\"failed\",\"error\":{";
  append_member(out, "code", "server_error");
  out += ",\"message\":\"";
  append_json_escaped(out, message_of(e));
  out += " (";
  append_json_escaped(out, name(e.why));
  out +=
      ")\"},\"incomplete_details\":null,\"instructions\":null,\"metadata\":{},\"model\":\"\",\"output\":[],"
      "\"parallel_tool_calls\":true,\"temperature\":null,\"tool_choice\":\"auto\",\"tools\":[],"
      "\"top_p\":null,\"usage\":null}}";
}

// Length of the valid UTF-8 sequence at `at`, or 0. Overlong forms and surrogates are not valid.
std::size_t utf8_length(std::string_view s, std::size_t at) {
  const auto byte = [&](std::size_t i) -> unsigned {
    return at + i < s.size() ? static_cast<unsigned char>(s[at + i]) : 0U;
  };
  const auto tail = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  const unsigned a = byte(0), b = byte(1);
  if (a < 0x80) return 1;
  if (a >= 0xC2 && a <= 0xDF) return tail(1) ? 2 : 0;
  if (a >= 0xE0 && a <= 0xEF) {
    const bool bad = (a == 0xE0 && b < 0xA0) || (a == 0xED && b > 0x9F);
    return !bad && tail(1) && tail(2) ? 3 : 0;
  }
  if (a >= 0xF0 && a <= 0xF4) {
    const bool bad = (a == 0xF0 && b < 0x90) || (a == 0xF4 && b > 0x8F);
    return !bad && tail(1) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

void append_control(std::string& out, char c) {
  constexpr char digits[] = "0123456789abcdef";
  switch (c) {
    case '\n': out += "\\n"; return;
    case '\r': out += "\\r"; return;
    case '\t': out += "\\t"; return;
    default: break;
  }
  const auto u = static_cast<unsigned char>(c);
  out += "\\u00";
  out += digits[u >> 4];
  out += digits[u & 15];
}

}  // namespace

int status_of(const api_error& e) {
  if (e.status != 0) return e.status;
  const int status = traits(e.why).status;
  return status != 0 ? status : 500;
}

std::string error_body(dialect d, const api_error& e, std::string_view request_id) {
  std::string out;
  if (d == dialect::anthropic) {
    append_anthropic_error(out, e, request_id);
  } else {
    append_openai_error(out, e);
  }
  return out;
}

std::string error_event(dialect d, const api_error& e, std::string_view request_id, const stream_tail& tail) {
  std::string out;
  switch (d) {
    case dialect::openai:
      out += "data: ";
      append_openai_error(out, e);
      break;
    case dialect::responses:
      out += "event: response.failed\ndata: ";
      append_failed_response(out, e, request_id, tail);
      break;
    case dialect::anthropic:
      out += "event: error\ndata: ";
      append_anthropic_error(out, e, request_id);
      break;
  }
  out += "\n\n";
  return out;
}

std::size_t plain_json_length(std::string_view s) {
  std::size_t i = 0;
#if defined(__SSE2__)
  // A bit for each byte that is not plain. Signed: bytes of 0x80 and above are less than a blank, too.
  const auto unusual = [](const char* bytes) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
    const __m128i low = _mm_cmplt_epi8(v, _mm_set1_epi8(' '));
    const __m128i marks =
        _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
    const __m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
    return static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(low, marks), del)));
  };
  for (; i + 16 <= s.size(); i += 16) {
    if (const unsigned mask = unusual(s.data() + i)) return i + static_cast<unsigned>(__builtin_ctz(mask));
  }
  char rest[16] = {};  // a zero is not plain
  std::memcpy(rest, s.data() + i, s.size() - i);
  return i + static_cast<unsigned>(__builtin_ctz(unusual(rest)));
#else
  while (i < s.size() && s[i] >= ' ' && s[i] < 0x7f && s[i] != '"' && s[i] != '\\') ++i;
  return i;
#endif
}

void append_json_escaped(std::string& out, std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t plain = plain_json_length(text.substr(at));
    out.append(text.substr(at, plain));
    at += plain;
    if (at == text.size()) return;
    const char c = text[at];
    const std::size_t n = utf8_length(text, at);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      append_control(out, c);
    } else if (n == 0) {
      out += "\xEF\xBF\xBD";  // U+FFFD: an error message must be JSON whatever it quotes
    } else {
      out.append(text.substr(at, n));
    }
    at += n == 0 ? 1 : n;
  }
}

}  // namespace penstock::http
