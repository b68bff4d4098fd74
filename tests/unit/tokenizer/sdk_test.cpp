// Bodies of real SDKs: a conversation that goes on keeps its leading blocks.
#include <doctest/doctest.h>

#include "unit/tokenizer/reading.hpp"
#include "unit/tokenizer/sdk_bodies.hpp"

using namespace penstock;
using namespace penstock::tokenizer;

namespace {

void extends(api_kind api, std::string_view first, std::string_view second) {
  for (const std::uint32_t block : {16U, 20U, 32U, 64U}) {
    const auto before = chain_of(api, first, block);
    const auto after = chain_of(api, second, block);
    CAPTURE(block);
    REQUIRE_FALSE(before.empty());
    CHECK(after.size() >= before.size());
    CHECK(shared(before, after) == before.size());
  }
}

}  // namespace

TEST_CASE("a second turn has the first turn's blocks") {
  extends(api_kind::chat, sdk::chat_turn_1, sdk::chat_turn_2);
  extends(api_kind::chat, sdk::node_turn_1, sdk::node_turn_2);
  extends(api_kind::chat, sdk::tools_turn_1, sdk::tools_turn_2);
  extends(api_kind::responses, sdk::responses_turn_1, sdk::responses_turn_2);
  extends(api_kind::messages, sdk::messages_turn_1, sdk::messages_turn_2);
}

TEST_CASE("two SDKs that say the same have the same chain") {
  CHECK(chain_of(api_kind::chat, sdk::chat_turn_1) == chain_of(api_kind::chat, sdk::node_turn_1));
  CHECK(chain_of(api_kind::chat, sdk::chat_turn_2) == chain_of(api_kind::chat, sdk::node_turn_2));
  CHECK(chain_of(api_kind::responses, sdk::responses_turn_1) ==
        chain_of(api_kind::responses, sdk::responses_string));
}

TEST_CASE("a conversation continued by id shares nothing with one that begins with the same words") {
  const auto continued = chain_of(api_kind::responses, sdk::responses_continued);
  CHECK_FALSE(continued.empty());
  CHECK(shared(continued, chain_of(api_kind::responses, sdk::responses_string)) == 0);
  CHECK(read_body(api_kind::responses, sdk::responses_continued).facts.previous_response_id == "resp_1");
}

TEST_CASE("facts of SDK bodies") {
  const auto turn = read_body(api_kind::chat, sdk::chat_turn_2).facts;
  CHECK(turn.model == "m");
  CHECK(turn.max_tokens == 20);
  CHECK_FALSE(turn.stream);
  CHECK(at(sdk::chat_turn_2, turn.member(body_key::max_tokens)) == "20");
  CHECK(turn.object_end == sdk::chat_turn_2.size() - 1);
  CHECK(read_body(api_kind::chat, sdk::tools_turn_1).facts.has_tools);
  const auto images = read_body(api_kind::chat, sdk::chat_images).facts;
  CHECK(images.image_parts == 2);
  CHECK(images.prompt_tokens > 2000);
  CHECK(read_body(api_kind::messages, sdk::messages_turn_1).facts.max_tokens == 50);
}
