// The line rules of an event stream: where events end, and what their lines say.
#pragma once

#include <cstdint>
#include <string>

#include "penstock/bytes.hpp"

namespace penstock::http {

// May stand at the very start of a stream, and means nothing there.
inline constexpr bytes_view byte_order_mark = "\xEF\xBB\xBF";

// Finds the ends of events in a stream that comes in pieces. Lines end in LF, CRLF or CR. An event ends
// after its blank line; where the stream uses CRLF, a blank line's LF that has not come yet is waited
// for, where it uses CR alone, it is not.
class event_splitter {
 public:
  // Looks at all of `in`, which continues what was given before, up to the first event end. Returns the
  // offset just past it (0 when the event had ended with the bytes before), or npos.
  std::size_t find_end(bytes_view in);

 private:
  enum class line_end : std::uint8_t { unknown, lf, cr, crlf };
  std::size_t skip_bom(bytes_view in);

  std::uint8_t bom_ = 0;    // bytes of a leading byte order mark seen; 4: not looked for any more
  bool line_empty_ = true;  // nothing in the current line yet
  bool after_cr_ = false;   // an LF now belongs to the line end before
  bool blank_cr_ = false;   // a blank line ended in CR; its LF may come
  line_end style_ = line_end::unknown;
};

// The fields of one whole event that anybody here reads.
struct event_fields {
  bytes_view name;  // of the last `event:` line
  bytes_view data;  // all `data:` lines, joined with LF
  bool has_data = false;
};

// Reads a whole event. `joined` holds the data when there are several data lines.
event_fields read_event(bytes_view event, std::string& joined);

}  // namespace penstock::http
