// llhttp as the second reader of every message: what the strict scan accepts must mean the same to it.
#pragma once

#include <llhttp.h>

#include <span>

#include "penstock/bytes.hpp"
#include "proxy/http/head.hpp"

namespace penstock::http {

// Not movable: llhttp points back to it. Built the same for llhttp 8.1 and 9.2, without lenient flags.
class second_reader {
 public:
  explicit second_reader(llhttp_type_t type);
  second_reader(const second_reader&) = delete;
  second_reader& operator=(const second_reader&) = delete;

  // Starts a message with its head, all of it but lines that llhttp accepted before and that say nothing of
  // framing: it reads each line for itself. True when llhttp accepts it and frames the body as we do.
  // `skip_body`: no body follows whatever the head says (answers to HEAD, 204, 304).
  bool head(std::span<const bytes_view> parts, body_framing framing, std::uint64_t content_length,
            bool skip_body);

  // Feeds bytes of a chunked body, framing included but without its trailers, which it never sees; `ended`
  // when the message did. True when llhttp accepts all of them and ends the message then and only then.
  bool chunked(bytes_view raw, bool ended);

 private:
  struct progress {
    bool head_done = false, message_done = false, skip_body = false;
  };
  static const llhttp_settings_t* callbacks();

  progress progress_;
  llhttp_t parser_;
  llhttp_type_t type_;
};

}  // namespace penstock::http
