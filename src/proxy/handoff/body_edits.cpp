#include "proxy/handoff/body_edits.hpp"

#include <algorithm>
#include <utility>

namespace penstock::handoff {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

}  // namespace

void body_edits::set(body_key key, std::string_view name, std::string_view value) {
  if (body_.facts.member(key)) return replace(key, value);
  add(name, value);
}

void body_edits::replace(body_key key, std::string_view value) {
  if (const value_range at = body_.facts.member(key))
    edits_.push_back({at.begin, at.end - at.begin, std::string(value)});
}

void body_edits::add(std::string_view name, std::string_view value) {
  if (!body_.facts.object_empty || !added_.empty()) added_ += ',';
  added_ += '"';
  added_ += name;
  added_ += "\":";
  added_ += value;
}

void body_edits::drop_stream_options() {
  const value_range value = body_.facts.member(body_key::stream_options);
  if (!value) return;
  std::size_t begin = body_.facts.stream_options_key, end = value.end;
  std::size_t behind = end;
  while (is_blank(body_.bytes[behind])) ++behind;
  if (body_.bytes[behind] == ',') {
    end = behind + 1;
  } else {
    // The last member takes the comma before it along; the prompt stands somewhere before that.
    while (is_blank(body_.bytes[begin - 1])) --begin;
    if (body_.bytes[begin - 1] == ',') --begin;
  }
  edits_.push_back({begin, end - begin, {}});
}

void body_edits::finish(splices& out) {
  if (!added_.empty()) edits_.push_back({body_.facts.object_end, 0, std::move(added_)});
  for (splice& s : edits_) out.push_back(std::move(s));
  std::stable_sort(out.begin(), out.end(),
                   [](const splice& a, const splice& b) { return a.offset < b.offset; });
}

}  // namespace penstock::handoff
