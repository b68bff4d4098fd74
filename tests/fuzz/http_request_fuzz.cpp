// Requests: any bytes, cut anywhere, must come to what they come to whole.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proxy/http/heads.hpp"
#include "proxy/http/request_parser.hpp"
#include "proxy/http/route.hpp"

namespace {

using namespace penstock;
using namespace penstock::http;

void require(bool ok) {
  if (!ok) std::abort();
}

// What an accepted head makes of itself on the way to an engine must be accepted again.
void check_rebuilt(const request_head& head) {
  const auto found = find_route(head, {});
  const auto* call = std::get_if<route>(&found);
  if (call == nullptr || call->api == api_kind::model || call->api == api_kind::options) return;
  engine_request to;
  to.method = head.method;
  to.path = call->path;
  to.query = call->query;
  to.authority = "engine:8000";
  to.request_id = usable_request_id(head);
  std::string out;
  append_engine_head(out, head, to);
  request_parser again({1 << 20, 1000});
  body_spans spans;
  const parse_result r = again.feed(out, spans);
  require(r.status == parse_status::head && r.consumed == out.size());
  require(again.head().framing == body_framing::none);
}

std::string outcome(std::string_view text, std::size_t step) {
  request_parser parser({256, 8});
  std::string out;
  std::size_t whole = 0;  // of out: up to the last head or end; body bytes before a failure may differ
  for (std::size_t from = 0; from < text.size(); from += step) {
    std::string_view rest = text.substr(from, step);
    for (parse_status last = parse_status::progress; last != parse_status::more;) {
      body_spans spans;
      const parse_result r = parser.feed(rest, spans);
      require(r.consumed <= rest.size());
      rest.remove_prefix(r.consumed);
      last = r.status;
      if (last == parse_status::failed) {
        return out.substr(0, whole) + "!" + std::string(name(parser.error().why));
      }
      for (const bytes_view s : spans) out.append(s);
      if (last == parse_status::head) {
        out.append("<").append(parser.head().method).append(" ").append(parser.head().target).append(">");
        check_rebuilt(parser.head());
        whole = out.size();
      }
      if (last == parse_status::complete) {
        out += ";";
        whole = out.size();
        parser.next();
      }
      // A head without a body completes on the next call, even for no bytes.
      if (rest.empty() && last != parse_status::head) break;
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string whole = outcome(text, text.size() + 1);
  require(outcome(text, 1) == whole);
  require(outcome(text, 7) == whole);
  return 0;
}
