// What a hand-off cannot carry, what a prefill answer says, and the ledger.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "proxy/handoff/ledger.hpp"
#include "proxy/handoff/prefill_answer.hpp"
#include "unit/proxy/handoff/bodies.hpp"

using namespace penstock;
using namespace penstock::handoff;
using namespace penstock::handoff::testing;
using namespace std::chrono_literals;

namespace {

bool carries(connector_kind kind, std::string_view members, api_kind api = api_kind::chat) {
  const std::string_view words = api == api_kind::completions ? R"("prompt":"x")" : R"("messages":[])";
  const std::string body =
      fmt::format(R"({{"model":"m",{}{}{}}})", words, members.empty() ? "" : ",", members);
  return (carriers(facts_of(body, api)) >> static_cast<unsigned>(kind) & 1U) != 0;
}

// Recorded from vLLM 0.32.0, block ids shortened.
constexpr std::string_view recorded =
    R"({"id":"chatcmpl-pd-1","object":"chat.completion","model":"tiny","choices":[{"index":0,"message":{"role":"assistant","content":"gth"},"finish_reason":"length"}],"usage":{"prompt_tokens":734,"total_tokens":735,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":0,"created_cache_tokens":704,"multimodal_tokens":null}},"kv_transfer_params":{"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[[376,377]],"remote_engine_id":"bd92bbbb","remote_request_id":"chatcmpl-pd-1-a6adea16","remote_host":"127.0.0.1","remote_port":9322,"tp_size":1,"remote_num_tokens":734,"remote_blocks_expiry_time":null,"transfer_mode":"pull","remote_prefill_cached_tokens":512},"ec_transfer_params":null})";

}  // namespace

TEST_CASE("what a hand-off cannot carry is in one closed rule") {
  constexpr auto nixl = connector_kind::nixl;
  CHECK(carries(nixl, ""));
  CHECK(
      carries(nixl, R"("n":1,"echo":false,"prompt_logprobs":null,"use_beam_search":false,"logprobs":true)"));
  for (const std::string_view member :
       {R"("n":2)", R"("best_of":2)", R"("use_beam_search":true)", R"("echo":true)", R"("prompt_logprobs":0)",
        R"("prompt_\u006cogprobs":1)", R"("best_of":"2")", R"("use_beam_search":1)",
        R"("use_beam_search":"true")", R"("echo":1)", R"("echo":"yes")"}) {
    CAPTURE(member);
    CHECK_FALSE(carries(nixl, member));
    CHECK_FALSE(carries(nixl, member, api_kind::completions));
  }
  const auto prompt = [](std::string_view value) {
    const auto facts = facts_of(fmt::format(R"({{"model":"m","prompt":{}}})", value), api_kind::completions);
    return (carriers(facts) & 1U << static_cast<unsigned>(nixl)) != 0;
  };
  CHECK(prompt(R"("x")"));
  CHECK(prompt("[1,2,3]"));
  CHECK_FALSE(prompt(R"(["x"])"));
  CHECK_FALSE(prompt(R"(["x","y"])"));
  CHECK_FALSE(prompt("[[1,2],[3]]"));
  CHECK(carriers(facts_of(R"({"model":"m","prompt_embeds":"AA=="})", api_kind::completions)) == 0);
  CHECK(carriers(facts_of(R"({"model":"m","input":"x"})", api_kind::embeddings)) == 0);
  CHECK(carriers(facts_of(R"({"model":"m","input":"x"})", api_kind::responses)) != 0);
  CHECK(carriers(facts_of(R"({"model":"m","input":"x","previous_response_id":"r"})", api_kind::responses)) ==
        0);
}

TEST_CASE("the parameters of a prefill answer are found as they stand") {
  const prefill_answer a = read_prefill_answer(connector_kind::nixl, recorded);
  CHECK(a.read);
  CHECK(
      a.params ==
      R"({"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[[376,377]],"remote_engine_id":"bd92bbbb","remote_request_id":"chatcmpl-pd-1-a6adea16","remote_host":"127.0.0.1","remote_port":9322,"tp_size":1,"remote_num_tokens":734,"remote_blocks_expiry_time":null,"transfer_mode":"pull","remote_prefill_cached_tokens":512})");
  CHECK(a.params.data() >= recorded.data());
  CHECK(a.cached_known);
  CHECK(a.cached_tokens == 512);  // the hand-off's own figure wins over usage
  // Numbers, blanks and unknown members stay; a member of that name inside the text is not taken for it.
  const std::string_view spaced =
      R"({"choices":[{"message":{"content":"\"kv_transfer_params\":{}"}, "kv_transfer_params":{"x":1}}], "kv_transfer_params" : { "do_remote_prefill" : true, "remote_engine_id":"e","remote_block_ids":[],"remote_host":"h","remote_port":1,"z":1.50e1,"y":"\u00e9" } })";
  CHECK(
      read_prefill_answer(connector_kind::nixl, spaced).params ==
      R"({ "do_remote_prefill" : true, "remote_engine_id":"e","remote_block_ids":[],"remote_host":"h","remote_port":1,"z":1.50e1,"y":"\u00e9" })");
}

TEST_CASE("parameters that no decode engine could use are none") {
  const auto usable = [](std::string_view body) {
    return !read_prefill_answer(connector_kind::nixl, body).params.empty();
  };
  CHECK_FALSE(usable("{}"));
  CHECK_FALSE(usable(""));
  CHECK_FALSE(usable("[1]"));
  CHECK_FALSE(usable(recorded.substr(0, recorded.size() - 1)));
  CHECK_FALSE(usable(R"({"kv_transfer_params":null})"));
  CHECK_FALSE(usable(R"({"kv_transfer_params":"x"})"));
  CHECK_FALSE(usable(R"({"kv_transfer_params":{}})"));
  for (const std::string_view name :
       {"remote_engine_id", "remote_block_ids", "remote_host", "remote_port", "do_remote_prefill"}) {
    std::string body(recorded);
    body.replace(body.find(name), 3, "xxx");
    CAPTURE(name);
    CHECK_FALSE(usable(body));
  }
  CHECK(read_prefill_answer(connector_kind::nixl, "{}").read);
  CHECK_FALSE(read_prefill_answer(connector_kind::nixl, "{").read);
}

TEST_CASE("a lease gives its place back however it ends, once") {
  ledger book;
  const instant t{1000s};
  const auto open = [&] { return book.open({1, 1}, {2, 1}, 100, t, 30s); };
  {
    lease l = open();
    CHECK(book.open_count() == 1);
    CHECK(book.held()[0].holder == endpoint_id{1, 1});
    CHECK(book.held()[0].until == t + 30s);
    CHECK(l.fresh(t));
    CHECK(l.fresh(t + 15s - 1ns));
    CHECK_FALSE(l.fresh(t + 15s));
    CHECK(l.latest() == t + 22500ms);
    CHECK(lease{}.latest() == never);
    l.spend();
    CHECK_FALSE(l.fresh(t));
    l.close(closing::fetched);
    l.close(closing::cut);
    CHECK_FALSE(l);
  }
  CHECK(book.closed(closing::fetched) == 1);
  CHECK(book.closed(closing::cut) == 0);
  { const lease l = open(); }
  CHECK(book.closed(closing::expired) == 1);
  {
    lease l = open();
    l.spend();
  }
  CHECK(book.closed(closing::lapsed) == 1);
  {
    lease a = open(), b = open();
    CHECK(book.open_count() == 2);
    a = std::move(b);
    CHECK(book.open_count() == 1);
    CHECK(book.closed(closing::expired) == 2);
    lease c(std::move(a));
    CHECK(book.open_count() == 1);
    CHECK(c.fresh(t));
  }
  CHECK(book.closed(closing::expired) == 3);
  CHECK(book.open_count() == 0);
  CHECK(book.opened() == 5);
  CHECK(book.held().empty());
}
