// What the JSON of one event or answer says: content, usage, errors, ids. Slow and exact; called only
// for events that byte patterns cannot decide.
#pragma once

#include <string>

#include "penstock/account_record.hpp"
#include "penstock/bytes.hpp"

namespace penstock::http {

// Facts of one event's data.
struct event_facts {
  bool parsed = false;         // valid JSON and an object
  bool error = false;          // top-level "error" that is not null, or type "error"
  bool usage = false;          // a usage object was read
  bool choices_empty = false;  // "choices": []
  bool content = false;        // some choice has generated content
  std::string type;            // top-level "type"
  std::string response_id;     // "response": {"id": ...}
};

// Reads `data`. Token counts found overwrite those in `usage`; counts that are absent stay.
event_facts read_event_json(bytes_view data, token_usage& usage);

// Reads one usage object of any API's shape. False when it holds no token count.
bool read_usage_json(bytes_view object, token_usage& usage);

}  // namespace penstock::http
