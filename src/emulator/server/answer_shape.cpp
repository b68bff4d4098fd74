#include "emulator/server/answer_shape.hpp"

#include <fmt/format.h>

#include "emulator/server/json_text.hpp"

namespace penstock::emulator {

void answer_shape::error(bool marker, events& out) {
  out.emplace_back(
      "data: {\"error\": {\"message\": \"EngineCore encountered an issue. See stack trace (above) for the "
      "root "
      "cause.\", \"type\": \"InternalServerError\", \"param\": null, \"code\": 500}}\n\n");
  if (marker) out.emplace_back("data: [DONE]\n\n");
}

std::unique_ptr<answer_shape> make_shape(const engine_request& request, const answer_identity& identity) {
  switch (request.api) {
    case engine_api::chat: return make_chat_shape(request, identity);
    case engine_api::completions: return make_completions_shape(request, identity);
    case engine_api::responses: return make_responses_shape(request, identity);
    case engine_api::messages: return make_messages_shape(request, identity);
    case engine_api::embeddings:
    case engine_api::rerank:
    case engine_api::score:
    case engine_api::tokenize: break;
  }
  return make_pooling_shape(request, identity);
}

std::string error_body(engine_api api, const api_failure& failure) {
  if (api == engine_api::messages) {
    return fmt::format(R"({{"type":"error","error":{{"type":{},"message":{}}}}})", quote(failure.type),
                       quote(failure.message));
  }
  return fmt::format(R"({{"error":{{"message":{},"type":{},"param":{},"code":{}}}}})", quote(failure.message),
                     quote(failure.type), quote_or_null(failure.param), failure.status);
}

}  // namespace penstock::emulator
