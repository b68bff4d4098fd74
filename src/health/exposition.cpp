#include "health/exposition.hpp"

#include <charconv>
#include <limits>

namespace penstock::health {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

void skip_blanks(std::string_view& text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
}

// After the opening quote: the raw text up to the closing one, which is consumed as well.
std::optional<std::string_view> read_quoted(std::string_view& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      const auto raw = text.substr(0, i);
      text.remove_prefix(i + 1);
      return raw;
    }
  }
  return std::nullopt;
}

std::string_view read_word(std::string_view& text, std::string_view stops) {
  const auto end = std::min(text.find_first_of(stops), text.size());
  const auto word = text.substr(0, end);
  text.remove_prefix(end);
  return word;
}

// key="raw" at the front of `text`.
bool read_label(std::string_view& text, label& out) {
  out.key = read_word(text, "= \t\"},");
  skip_blanks(text);
  if (out.key.empty() || text.empty() || text.front() != '=') return false;
  text.remove_prefix(1);
  skip_blanks(text);
  if (text.empty() || text.front() != '"') return false;
  text.remove_prefix(1);
  const auto raw = read_quoted(text);
  if (!raw) return false;
  out.raw = *raw;
  return true;
}

// What stands between the braces, and the closing one.
bool read_labels(std::string_view& text, std::vector<label>& labels) {
  for (;;) {
    skip_blanks(text);
    if (text.empty()) return false;
    if (text.front() == '}') {
      text.remove_prefix(1);
      return true;
    }
    label next;
    if (!read_label(text, next)) return false;
    if (labels.size() < max_labels) labels.push_back(next);
    skip_blanks(text);
    if (!text.empty() && text.front() == ',') {
      text.remove_prefix(1);
    } else if (text.empty() || text.front() != '}') {
      return false;
    }
  }
}

// Timestamps and exemplars after the value are not looked at.
bool read_value(std::string_view text, double& out) {
  skip_blanks(text);
  auto word = read_word(text, " \t\r#");
  if (!word.empty() && word.front() == '+') word.remove_prefix(1);
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), out);
  if (word.empty() || error == std::errc::invalid_argument || end != word.data() + word.size()) return false;
  if (error == std::errc::result_out_of_range) out = std::numeric_limits<double>::quiet_NaN();
  return true;
}

}  // namespace

std::string unescape(std::string_view raw) {
  std::string out;
  out.reserve(raw.size());
  for (std::size_t i = 0; i < raw.size(); ++i) {
    const char next = i + 1 < raw.size() ? raw[i + 1] : '\0';
    if (raw[i] != '\\' || (next != '\\' && next != '"' && next != 'n')) {
      out.push_back(raw[i]);
      continue;
    }
    out.push_back(next == 'n' ? '\n' : next);
    ++i;
  }
  return out;
}

std::optional<std::string> sample::find(std::string_view key) const {
  for (const auto& l : labels) {
    if (l.key == key) return unescape(l.raw);
  }
  return std::nullopt;
}

bool sample::has(std::string_view key, std::string_view wanted) const {
  for (const auto& l : labels) {
    if (l.key == key) return l.raw == wanted || unescape(l.raw) == wanted;
  }
  return false;
}

std::string_view exposition_reader::next_name() {
  while (!rest_.empty()) {
    const auto end = std::min(rest_.find('\n'), rest_.size());
    tail_ = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    skip_blanks(tail_);
    if (tail_.empty() || tail_.front() == '#') continue;
    quoted_ = tail_.front() == '{';
    if (!quoted_) {
      std::size_t end_of_name = 0;
      while (end_of_name < tail_.size() && tail_[end_of_name] != '{' && !is_blank(tail_[end_of_name]))
        ++end_of_name;
      name_ = tail_.substr(0, end_of_name);
      tail_.remove_prefix(end_of_name);
      return name_;
    }
    // {"name", key="value"} 1
    tail_.remove_prefix(1);
    skip_blanks(tail_);
    if (tail_.empty() || tail_.front() != '"') continue;
    tail_.remove_prefix(1);
    const auto name = read_quoted(tail_);
    if (!name || name->empty()) continue;
    name_ = *name;
    return name_;
  }
  return {};
}

const sample* exposition_reader::read() {
  auto text = tail_;
  sample_.name = name_;
  sample_.labels.clear();
  skip_blanks(text);
  if (quoted_) {
    if (!text.empty() && text.front() == ',') text.remove_prefix(1);
    if (!read_labels(text, sample_.labels)) return nullptr;
  } else if (!text.empty() && text.front() == '{') {
    text.remove_prefix(1);
    if (!read_labels(text, sample_.labels)) return nullptr;
  }
  return read_value(text, sample_.value) ? &sample_ : nullptr;
}

}  // namespace penstock::health
