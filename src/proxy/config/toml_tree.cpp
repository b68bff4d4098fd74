// The only file that knows toml++. Header-only, whatever the package's flags say: its shared library has
// exceptions and deeper recursion compiled in.
#undef TOML_HEADER_ONLY
#undef TOML_SHARED_LIB
#define TOML_HEADER_ONLY 1
// Its assertions are wrong for some texts ("[=") that it goes on to refuse properly: they must neither abort
// nor, with NDEBUG, become assumptions of the optimiser.
#undef NDEBUG
#define TOML_ASSERT(expr) static_assert(true)
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_MAX_NESTED_VALUES 32
#include <toml++/toml.h>

#include <algorithm>

#include "proxy/config/prescan.hpp"
#include "proxy/config/tree.hpp"

namespace penstock::conf {
namespace {

position place(const toml::source_position& p) { return {p.line, p.column}; }

tree_value convert(const toml::node& node);

void convert_table(const toml::table& table, tree_value& out) {
  out.members.reserve(table.size());
  for (const auto& [key, value] : table)
    out.members.push_back({std::string(key.str()), place(key.source().begin), convert(value)});
  std::stable_sort(out.members.begin(), out.members.end(),
                   [](const tree_member& a, const tree_member& b) { return a.at < b.at; });
}

// Recursion is bounded by TOML_MAX_NESTED_VALUES and by prescan()'s bound on dotted keys.
tree_value convert(const toml::node& node) {
  tree_value out;
  out.at = place(node.source().begin);
  out.end = place(node.source().end);
  switch (node.type()) {
    case toml::node_type::table:
      out.kind = value_kind::table;
      convert_table(*node.as_table(), out);
      break;
    case toml::node_type::array:
      out.kind = value_kind::array;
      for (const auto& item : *node.as_array()) out.items.push_back(convert(item));
      break;
    case toml::node_type::string:
      out.kind = value_kind::string;
      out.text = node.as_string()->get();
      break;
    case toml::node_type::integer:
      out.kind = value_kind::integer;
      out.integer = node.as_integer()->get();
      break;
    case toml::node_type::floating_point:
      out.kind = value_kind::number;
      out.number = node.as_floating_point()->get();
      break;
    case toml::node_type::boolean:
      out.kind = value_kind::boolean;
      out.boolean = node.as_boolean()->get();
      break;
    default: out.kind = value_kind::date; break;
  }
  return out;
}

// The library says "Error while parsing key-value pair: cannot redefine ..."; the part after the colon
// is what a reader needs, the part before says where it was.
std::string plain_words(std::string_view description) {
  constexpr std::string_view lead = "Error while parsing ";
  std::string out = "not valid TOML: ";
  if (description.substr(0, lead.size()) == lead) description.remove_prefix(lead.size());
  // The library repeats bytes of the file.
  for (const char c : description) out += (c >= 0 && c < ' ') || c == 0x7f ? '?' : c;
  return out;
}

// The two mistakes that everybody makes with quotes.
std::string usual_cause(std::string_view description) {
  if (description.find("could not determine value type") != std::string_view::npos)
    return "strings need quotes";
  if (description.find("unescaped control characters") != std::string_view::npos)
    return "is the closing quote missing?";
  return "";
}

}  // namespace

std::variant<tree_value, syntax_error> parse_toml(std::string_view text) {
  if (auto bad = prescan(text)) return *std::move(bad);
  const auto result = toml::parse(text);
  if (!result)
    return syntax_error{place(result.error().source().begin), plain_words(result.error().description()),
                        usual_cause(result.error().description())};
  return convert(result.table());
}

}  // namespace penstock::conf
