#include "proxy/http/second_reader.hpp"

namespace penstock::http {

const llhttp_settings_t* second_reader::callbacks() {
  static const llhttp_settings_t settings = [] {
    llhttp_settings_t s;
    llhttp_settings_init(&s);
    s.on_headers_complete = [](llhttp_t* p) {
      auto* seen = static_cast<progress*>(p->data);
      seen->head_done = true;
      return seen->skip_body ? 1 : 0;
    };
    s.on_message_complete = [](llhttp_t* p) {
      static_cast<progress*>(p->data)->message_done = true;
      return 0;
    };
    return s;
  }();
  return &settings;
}

second_reader::second_reader(llhttp_type_t type) : type_(type) { llhttp_init(&parser_, type_, callbacks()); }

bool second_reader::head(std::span<const bytes_view> parts, body_framing framing,
                         std::uint64_t content_length, bool skip_body) {
  llhttp_init(&parser_, type_, callbacks());
  progress_ = {};
  progress_.skip_body = skip_body;
  parser_.data = &progress_;
  llhttp_errno_t rc = HPE_OK;
  for (const bytes_view part : parts) {
    if (rc == HPE_OK) rc = llhttp_execute(&parser_, part.data(), part.size());
  }
  // A request with Upgrade and no body pauses after its end; to us it is an ordinary message.
  if ((rc != HPE_OK && rc != HPE_PAUSED_UPGRADE) || !progress_.head_done) return false;
  const bool chunked = (parser_.flags & F_CHUNKED) != 0;
  switch (framing) {
    case body_framing::chunked: return chunked && !progress_.message_done;
    case body_framing::length:
      return !chunked && !progress_.message_done && parser_.content_length == content_length;
    case body_framing::until_close: return !chunked && !progress_.message_done;
    case body_framing::none: return progress_.message_done;
  }
  return false;
}

bool second_reader::chunked(bytes_view raw, bool ended) {
  if (!raw.empty() && llhttp_execute(&parser_, raw.data(), raw.size()) != HPE_OK) return false;
  if (progress_.message_done) return false;
  if (!ended) return true;
  const llhttp_errno_t rc = llhttp_execute(&parser_, "\r\n", 2);
  return (rc == HPE_OK || rc == HPE_PAUSED_UPGRADE) && progress_.message_done;
}

}  // namespace penstock::http
