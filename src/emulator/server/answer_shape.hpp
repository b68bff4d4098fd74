// The JSON of answers, per API, in the order and with the members of vLLM 0.32.0.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "emulator/model/text.hpp"
#include "emulator/server/request.hpp"

namespace penstock::emulator {

struct usage_counts {
  std::uint32_t prompt = 0, completion = 0, cached = 0, created = 0;
};

// What all parts of an answer share.
struct answer_identity {
  std::string id;            // without the API's prefix
  std::int64_t created = 0;  // Unix time
  bool details = true;       // usage tells cached tokens
};

// Builds the events of a stream or the one body. Texts are appended to `out` with their empty line;
// `events` separates them: each call of a stream function may append several.
class answer_shape {
 public:
  using events = std::vector<std::string>;

  answer_shape(const engine_request& request, const answer_identity& identity)
      : request_(request), identity_(identity) {}
  virtual ~answer_shape() = default;

  // Right after the head, before prefill.
  virtual void open(events&) {}
  // Before the first token of a choice.
  virtual void first(std::uint32_t choice, const usage_counts& usage, events& out) = 0;
  // A token of a choice. `usage` counts this choice alone; the last one brings its finish.
  virtual void token(std::uint32_t choice, std::string_view piece, const answer* last,
                     const usage_counts& usage, events& out) = 0;
  // After the last token of the last choice; false leaves the end marker out.
  virtual void close(std::span<const answer> answers, const usage_counts& usage, bool marker,
                     events& out) = 0;
  // What a dying engine sends; the end marker follows when wanted.
  virtual void error(bool marker, events& out);
  virtual std::string whole(std::span<const answer> answers, const usage_counts& usage) = 0;
  virtual std::string public_id() const = 0;

 protected:
  const engine_request& request_;
  const answer_identity& identity_;
};

std::unique_ptr<answer_shape> make_shape(const engine_request& request, const answer_identity& identity);
std::unique_ptr<answer_shape> make_chat_shape(const engine_request& request, const answer_identity& identity);
std::unique_ptr<answer_shape> make_completions_shape(const engine_request& request,
                                                     const answer_identity& identity);
std::unique_ptr<answer_shape> make_responses_shape(const engine_request& request,
                                                   const answer_identity& identity);
std::unique_ptr<answer_shape> make_messages_shape(const engine_request& request,
                                                  const answer_identity& identity);
std::unique_ptr<answer_shape> make_pooling_shape(const engine_request& request,
                                                 const answer_identity& identity);

// The body of an error answer.
std::string error_body(engine_api api, const api_failure& failure);

}  // namespace penstock::emulator
