// Edits of a JSON object by the places of its members.
#pragma once

#include <string>
#include <string_view>

#include "proxy/handoff/connector.hpp"

namespace penstock::handoff {

// Collects edits of one body; they are written, sorted, by finish().
class body_edits {
 public:
  explicit body_edits(const request_body& body) : body_(body) {}

  // Gives a member this value (JSON text), where it stands or else as a new one.
  void set(body_key key, std::string_view name, std::string_view value);
  // The same only where the client sent the member.
  void replace(body_key key, std::string_view value);
  void add(std::string_view name, std::string_view value);
  // Leaves stream_options out, its name and one comma included.
  void drop_stream_options();

  void finish(splices& out);

 private:
  const request_body& body_;
  splices edits_;
  std::string added_;
};

}  // namespace penstock::handoff
