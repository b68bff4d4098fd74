// multipart/form-data as far as routing needs it (RFC 7578, RFC 2046 section 5.1): the small fields that
// name the model. What an engine will refuse anyway is not looked at.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string>

#include "tokenizer/body_members.hpp"
#include "tokenizer/extractor.hpp"

namespace penstock::tokenizer {
namespace {

constexpr std::size_t max_boundary = 70;  // RFC 2046
constexpr std::size_t max_parts = 1024;
constexpr std::size_t max_part_head = 8192;
constexpr std::size_t max_field = 512;

bool same_word(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
         });
}

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

// Takes the value of a parameter off the front of `s`: a token, or a quoted string without its escapes.
std::string take_value(std::string_view& s) {
  std::string value;
  if (s.empty() || s.front() != '"') {
    const std::size_t end = std::min(s.find(';'), s.size());
    value = trimmed(s.substr(0, end));
    s.remove_prefix(end);
    return value;
  }
  std::size_t i = 1;
  for (; i < s.size() && s[i] != '"'; ++i) {
    if (s[i] == '\\' && i + 1 < s.size()) ++i;
    value.push_back(s[i]);
  }
  s.remove_prefix(std::min(i + 1, s.size()));
  return value;
}

// The parameter `name` of a header's value ("form-data; name=model").
std::optional<std::string> parameter(std::string_view header, std::string_view name) {
  std::size_t at = header.find(';');
  while (at != std::string_view::npos) {
    header = trimmed(header.substr(at + 1));
    const std::size_t equals = header.find_first_of("=;");
    if (equals == std::string_view::npos) return std::nullopt;
    if (header[equals] == '=') {
      const std::string_view key = trimmed(header.substr(0, equals));
      header = trimmed(header.substr(equals + 1));
      std::string value = take_value(header);
      if (same_word(key, name)) return value;
    }
    at = header.find(';');
  }
  return std::nullopt;
}

// The field name of a part, from its Content-Disposition; nothing when it has none.
std::optional<std::string> field_name(std::string_view head) {
  while (!head.empty()) {
    const std::size_t end = std::min(head.find("\r\n"), head.size());
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(std::min(end + 2, head.size()));
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    if (same_word(trimmed(line.substr(0, colon)), "content-disposition")) {
      return parameter(line.substr(colon + 1), "name");
    }
  }
  return std::nullopt;
}

api_error bad_form(std::string_view what) {
  return {reason::invalid_field, fmt::format("The form {}; send valid multipart/form-data.", what), {}};
}

class form_reader {
 public:
  form_reader(bytes_view body, std::string_view boundary, request_facts& out)
      : body_(body), delimiter_(fmt::format("\r\n--{}", boundary)), out_(out) {}

  std::optional<api_error> read() {
    // The first delimiter may lack its line break.
    std::string_view rest = body_;
    const std::string_view opening = std::string_view(delimiter_).substr(2);
    if (rest.starts_with(opening)) {
      rest.remove_prefix(opening.size());
    } else if (!skip_past_delimiter(rest)) {
      return bad_form("has no part");
    }
    for (std::size_t parts = 0;; ++parts) {
      if (rest.starts_with("--")) return std::nullopt;
      if (parts == max_parts) return bad_form(fmt::format("has more than {} parts", max_parts));
      const std::size_t line_end = rest.find("\r\n");
      if (line_end == std::string_view::npos || !trimmed(rest.substr(0, line_end)).empty()) {
        return bad_form("has a broken delimiter");
      }
      // A part without header fields has its empty line at once.
      rest.remove_prefix(line_end);
      const std::size_t head_end = rest.substr(0, max_part_head).find("\r\n\r\n");
      if (head_end == std::string_view::npos) return bad_form("has a part without an end of its head");
      const std::string_view head = rest.substr(0, head_end);
      rest.remove_prefix(head_end + 2);  // a delimiter's line break may be the empty line's
      const std::size_t end = rest.find(delimiter_);
      if (end == std::string_view::npos) return bad_form("ends inside of a part");
      const std::string_view value = end < 2 ? std::string_view{} : rest.substr(2, end - 2);
      rest.remove_prefix(end + delimiter_.size());
      if (auto refused = field(head, value)) return refused;
    }
  }

 private:
  bool skip_past_delimiter(std::string_view& rest) const {
    const std::size_t at = rest.find(delimiter_);
    if (at == std::string_view::npos) return false;
    rest.remove_prefix(at + delimiter_.size());
    return true;
  }

  std::optional<api_error> field(std::string_view head, std::string_view value) {
    const auto name = field_name(head);
    if (!name) return std::nullopt;
    if (is_engine_internal(*name)) {
      return api_error{
          reason::field_not_allowed,
          fmt::format(
              "'{}' is for engines to say to each other and is not allowed from clients; leave it out.",
              *name),
          *name};
    }
    if (*name == "model") {
      if (has_model_) return wrong_model("once");  // engines disagree on which one counts
      if (value.size() > max_field) return wrong_model("in at most 512 bytes");
      has_model_ = true;
      out_.model = value;
    } else if (*name == "stream") {
      out_.stream = same_word(value, "true") || value == "1";
    }
    return std::nullopt;
  }

  static api_error wrong_model(std::string_view how) {
    return {reason::invalid_field, fmt::format("'model' must be given {}; correct it.", how), "model"};
  }

  std::string_view body_;
  std::string delimiter_;
  request_facts& out_;
  bool has_model_ = false;
};

}  // namespace

std::optional<api_error> extractor::read_multipart(bytes_view content_type, bytes_view body,
                                                   request_facts& out) {
  out = request_facts{};
  out.api = api_kind::multipart;
  const auto boundary = parameter(content_type, "boundary");
  if (!boundary || boundary->empty() || boundary->size() > max_boundary) {
    return bad_form("has no boundary of 1 to 70 characters in its content type");
  }
  return form_reader(body, *boundary, out).read();
}

}  // namespace penstock::tokenizer
