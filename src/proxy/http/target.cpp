#include "proxy/http/target.hpp"

#include "proxy/http/char_tables.hpp"
#include "proxy/http/refusal.hpp"

namespace penstock::http {
namespace {

constexpr bytes_view models_prefix = "/v1/models/";

api_error bad(std::string_view what) { return refusal(reason::bad_target, what); }

// Value of the percent-encoding at `at`, or -1.
int encoded_byte(bytes_view s, std::size_t at) {
  if (at + 2 >= s.size()) return -1;
  const int high = chars::hex(s[at + 1]), low = chars::hex(s[at + 2]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// Why a path's bytes are refused, or empty.
std::string_view path_fault(bytes_view path, bool slash_allowed) {
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] != '%') {
      if (!chars::in(chars::path, path[i])) return "the path has a character that needs encoding";
      continue;
    }
    const int byte = encoded_byte(path, i);
    if (byte < 0) return "the path has a malformed percent-encoding";
    const char c = static_cast<char>(byte);
    if (chars::in(chars::unreserved, c)) return "the path encodes a character that needs no encoding";
    if (byte < 0x20 || byte == 0x7f || c == '\\') return "the path encodes a character that is not allowed";
    if (c == '/' && !slash_allowed) return "the path encodes a slash";
    i += 2;
  }
  return {};
}

// "//" or a segment that is "." or "..".
bool has_odd_segment(bytes_view path) {
  for (std::size_t at = 0; at < path.size();) {
    std::size_t end = path.find('/', at + 1);
    if (end == bytes_view::npos) end = path.size();
    const bytes_view segment = path.substr(at + 1, end - at - 1);
    if (segment == "." || segment == "..") return true;
    if (segment.empty() && end < path.size()) return true;
    at = end;
  }
  return false;
}

std::string_view query_fault(bytes_view query) {
  for (std::size_t i = 0; i < query.size(); ++i) {
    if (query[i] == '%') {
      if (encoded_byte(query, i) < 0) return "the query has a malformed percent-encoding";
      i += 2;
    } else if (!chars::in(chars::query, query[i])) {
      // Brackets are common in hand-written queries and mean nothing to a reader of request lines.
      if (query[i] != '[' && query[i] != ']') return "the query has a character that needs encoding";
    }
  }
  return {};
}

}  // namespace

std::variant<target_parts, api_error> split_target(bytes_view target) {
  if (target == "*") return target_parts{target, {}};
  if (target.empty()) return bad("the target is empty");
  if (target.front() != '/') {
    const std::size_t scheme = target.find("://");
    if (scheme == bytes_view::npos) return bad("the target is not a path");
    const std::size_t path = target.find_first_of("/?", scheme + 3);
    target = path == bytes_view::npos ? bytes_view("/") : target.substr(path);
    if (target.front() != '/') return bad("the target has no path");
  }
  target_parts out;
  const std::size_t question = target.find('?');
  out.path = target.substr(0, question);
  if (question != bytes_view::npos) out.query = target.substr(question + 1);
  const bool model = out.path.substr(0, models_prefix.size()) == models_prefix;
  if (const auto fault = path_fault(out.path, model); !fault.empty()) return bad(fault);
  if (has_odd_segment(out.path)) return bad("the path has an empty or dot segment");
  if (model && has_odd_segment(percent_decoded(out.path))) return bad("the path has an empty or dot segment");
  if (const auto fault = query_fault(out.query); !fault.empty()) return bad(fault);
  return out;
}

std::string percent_decoded(bytes_view s) {
  std::string out;
  out.reserve(s.size());
  for (std::size_t i = 0; i < s.size(); ++i) {
    const int byte = s[i] == '%' ? encoded_byte(s, i) : -1;
    if (byte < 0) {
      out += s[i];
    } else {
      out += static_cast<char>(byte);
      i += 2;
    }
  }
  return out;
}

}  // namespace penstock::http
