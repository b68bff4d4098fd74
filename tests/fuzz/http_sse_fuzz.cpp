// Event streams: no byte lost or changed, the same events and flags however the stream is cut.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/http/sse_scanner.hpp"

namespace {

using namespace penstock;
using namespace penstock::http;

void require(bool ok) {
  if (!ok) std::abort();
}

struct result {
  std::string bytes, flags;
  std::vector<std::string> events;
};

result outcome(api_kind api, std::size_t limit, std::string_view text, std::size_t step) {
  sse_scanner scanner(api, limit);
  result out;
  for (std::size_t from = 0; from < text.size(); from += step) {
    std::string_view rest = text.substr(from, step);
    while (!rest.empty()) {
      scanned_events found;
      const std::size_t used = scanner.scan(rest, found);
      require(used <= rest.size() && (used == rest.size() || found.full()));
      rest.remove_prefix(used);
      for (const scanned_event& e : found) {
        out.bytes.append(e.bytes);
        if (e.kind != event_kind::piece) {
          out.events.push_back(static_cast<char>('0' + static_cast<int>(e.kind)) + std::string(e.bytes));
        }
      }
      require(scanner.held() <= limit);
    }
  }
  out.bytes.append(scanner.tail());
  for (const std::uint64_t n :
       {scanner.events(), scanner.content_events(), scanner.oversized(), scanner.next_sequence(),
        scanner.usage().prompt, scanner.usage().completion}) {
    out.flags += std::to_string(n) + ",";
  }
  out.flags += scanner.ended() ? "E" : "";
  out.flags += scanner.error_seen() ? "x" : "";
  out.flags += scanner.first_token_seen() ? "c" : "";
  out.flags += scanner.response_id();
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const api_kind api :
       {api_kind::chat, api_kind::completions, api_kind::responses, api_kind::messages}) {
    for (const std::size_t limit : {std::size_t{1} << 20, std::size_t{64}}) {
      const result whole = outcome(api, limit, text, text.size() + 1);
      require(whole.bytes == text);
      for (const std::size_t step : {1, 5}) {
        const result cut = outcome(api, limit, text, step);
        require(cut.bytes == text && cut.events == whole.events && cut.flags == whole.flags);
      }
    }
  }
  return 0;
}
