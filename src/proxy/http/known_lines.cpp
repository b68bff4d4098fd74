#include "proxy/http/known_lines.hpp"

#include "proxy/http/field_names.hpp"

namespace penstock::http {

void known_lines::remember(head_collector& raw, const std::vector<field>& fields, std::size_t most_bytes,
                           std::size_t most_fields) {
  const bytes_view head = raw.bytes();
  next_ = 0;
  if (head.size() > most_bytes || fields.size() > most_fields) {
    std::string().swap(bytes_);
    return lines_.clear();
  }
  const auto offset = [](bytes_view part, bytes_view of) {
    return static_cast<std::uint32_t>(part.data() - of.data());
  };
  constexpr std::uint32_t blank_line = 2;
  auto end = static_cast<std::uint32_t>(head.size()) - blank_line;
  lines_.resize(fields.size());
  for (std::size_t i = fields.size(); i-- > 0;) {
    const field& f = fields[i];
    const std::uint32_t begin = offset(f.name, head);
    lines_[i] = {.begin = begin,
                 .size = end - begin,
                 .name = static_cast<std::uint32_t>(f.name.size()),
                 .value = offset(f.value, f.name),
                 .value_size = static_cast<std::uint32_t>(f.value.size()),
                 .plain = f.plain,
                 .kind = f.kind};
    if (is_hop_by_hop(f.kind)) lines_[i].size = 0;
    end = begin;
  }
  raw.exchange(bytes_);
}

}  // namespace penstock::http
