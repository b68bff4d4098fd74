// Any text as a configuration: it loads or it is refused with places inside of the text, and what loads
// is the same after it was printed and loaded again.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "proxy/config/load.hpp"
#include "proxy/config/reference.hpp"

namespace {

std::optional<std::string> variable(std::string_view name) {
  if (name == "A") return "http://engine:8000";
  if (name == "B") return "${A}\"\\\n$";
  return std::nullopt;
}

void require(bool truth) {
  if (!truth) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace penstock::conf;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto first = load(text, "fuzz.toml", variable);
  require((first.value == nullptr) == !first.errors.empty());
  const auto lines = static_cast<unsigned>(std::count(text.begin(), text.end(), '\n')) + 1;
  for (const auto& list : {first.errors, first.warnings})
    for (const auto& p : list) {
      require(p.line >= 1 && p.line <= lines && p.column >= 1);
      // Nothing that a file holds may reach a terminal as a control sequence.
      const auto shown = to_string(p);
      require(
          std::none_of(shown.begin(), shown.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; }));
    }
  if (!first.value) return 0;
  const auto printed = effective_toml(*first.value);
  const auto second = load(printed, "printed.toml", variable);
  require(second.value != nullptr);
  require(effective_toml(*second.value) == printed);
  require(reload_conflict(*first.value, *second.value).empty());
  return 0;
}
