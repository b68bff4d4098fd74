// Answers of engines: any bytes, cut anywhere, must come to what they come to whole.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proxy/http/answer_reader.hpp"
#include "proxy/http/heads.hpp"
#include "proxy/http/response_parser.hpp"

namespace {

using namespace penstock;
using namespace penstock::http;

void require(bool ok) {
  if (!ok) std::abort();
}

// The head that a client gets for an accepted one must be one that a strict client accepts.
void check_rebuilt(const response_head& head) {
  std::string out;
  client_response how;
  how.status = head.status;
  const bool no_body = head.status == 204 || head.status == 304;
  how.framing = no_body ? client_framing::none : client_framing::chunked;
  append_client_head(out, &head, "", how);
  response_parser again(1 << 20);
  body_spans spans;
  again.expect(false);
  const parse_result r = again.feed(out, spans);
  require(r.status == parse_status::head && r.consumed == out.size());
  require(again.head().framing == (no_body ? body_framing::none : body_framing::chunked));
}

std::string outcome(std::string_view text, std::size_t step) {
  response_parser parser(256);
  answer_reader reader(api_kind::responses);
  std::string out, head;  // head: what stays comparable when the body fails
  parser.expect(false);
  for (std::size_t from = 0; from < text.size(); from += step) {
    std::string_view rest = text.substr(from, step);
    for (;;) {
      body_spans spans;
      const parse_result r = parser.feed(rest, spans);
      require(r.consumed <= rest.size());
      rest.remove_prefix(r.consumed);
      if (r.status == parse_status::failed) return head + "!";
      for (const bytes_view s : spans) {
        out.append(s);
        reader.feed(s);
      }
      if (r.status == parse_status::head) {
        out = head = "<" + std::to_string(parser.head().status) + ">";
        check_rebuilt(parser.head());
        continue;
      }
      if (r.status == parse_status::complete) break;
      if (rest.empty()) break;
    }
  }
  out += parser.finish() ? "." : "?";
  reader.finish();
  return out + std::to_string(reader.usage().prompt) + reader.response_id();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string whole = outcome(text, text.size() + 1);
  require(outcome(text, 1) == whole);
  require(outcome(text, 7) == whole);
  return 0;
}
