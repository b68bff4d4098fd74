// Each fault as its client sees it, clients that leave, and the command line.
#include "emulator/server/fault.hpp"

#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include "unit/emulator/server/loopback.hpp"

using namespace penstock::emulator;
using namespace penstock::emulator::test;

namespace {

reply stream_with(engine& e, const std::string& fault) {
  return e.post("/v1/chat/completions", stream_body, "x-emulator-fault: " + fault + "\r\n");
}
reply whole_with(engine& e, const std::string& fault) {
  return e.post("/v1/chat/completions", chat_body, "x-emulator-fault: " + fault + "\r\n");
}
// Content events, the one with the role left out.
std::size_t tokens(const reply& r) {
  std::size_t n = 0;
  for (const std::string& d : r.data()) n += d.find("\"delta\":{\"content\"") != std::string::npos ? 1 : 0;
  return n;
}
bool has_done(const reply& r) { return r.body.find("[DONE]") != std::string::npos; }

engine_options slow_options() {
  auto o = instant_options();
  o.class_name = "demo";  // 20 ms a token
  return o;
}
const std::string long_stream =

    R"({"model":"tiny","messages":[{"role":"user","content":"x"}],"max_tokens":2000,)"
    R"("ignore_eos":true,"stream":true})";

}  // namespace

TEST_CASE("streams that break off after n tokens") {
  engine e;
  const reply die = stream_with(e, "die-after=5");
  CHECK(tokens(die) == 5);
  CHECK(die.end == ending::rst);
  CHECK_FALSE(die.complete);
  const reply cut = stream_with(e, "cut-after=3");
  CHECK(tokens(cut) == 3);
  CHECK(cut.end == ending::fin);
  CHECK_FALSE(cut.complete);
  const reply half = stream_with(e, "half-chunk-after=3");
  CHECK(tokens(half) == 3);
  CHECK(half.end == ending::fin);
  CHECK(half.raw.ends_with("]}\n\n\r\n") == false);
  CHECK(half.raw.rfind("data: {") > half.raw.rfind("\n\n"));  // an event that began and did not end
  const reply half_end = stream_with(e, "half-chunk-after=8");
  CHECK(half_end.raw.ends_with("e\r\ndata: ["));
  const reply garbage = stream_with(e, "garbage-after=2");
  CHECK(tokens(garbage) == 2);
  CHECK_FALSE(garbage.complete);
  CHECK(garbage.raw.find("not http") != std::string::npos);
  const reply none = stream_with(e, "die-after=0");
  CHECK(none.status == 200);
  CHECK(none.body.empty());
  CHECK(e.debug("broken") == 6);
  CHECK(e.debug("running") == 0);
}

TEST_CASE("streams that end cleanly and wrongly") {
  engine e;
  const reply error = stream_with(e, "error-event-after=4");
  CHECK(tokens(error) == 4);
  CHECK(error.complete);
  REQUIRE(error.chunks.size() == 1 + 4 + 2);
  CHECK(error.chunks[5] ==
        "data: {\"error\": {\"message\": \"EngineCore encountered an issue. See stack trace (above) for the "
        "root cause.\", \"type\": \"InternalServerError\", \"param\": null, \"code\": 500}}\n\n");
  CHECK(error.chunks[6] == "data: [DONE]\n\n");
  const reply only = stream_with(e, "error-only-after=4");
  CHECK(only.complete);
  CHECK_FALSE(has_done(only));
  CHECK(only.body.find("\"error\"") != std::string::npos);
  const reply no_end = stream_with(e, "no-end-after=2");
  CHECK(no_end.complete);
  CHECK(tokens(no_end) == 2);
  CHECK_FALSE(has_done(no_end));
  const reply all = stream_with(e, "no-end");
  CHECK(all.complete);
  CHECK(tokens(all) == 8);
  CHECK_FALSE(has_done(all));
  const reply last = stream_with(e, "no-last-chunk");
  CHECK(has_done(last));
  CHECK_FALSE(last.complete);
  CHECK(last.end == ending::fin);
  const reply messages =
      e.post("/v1/messages",
             R"({"model":"tiny","messages":[{"role":"user","content":"x"}],"max_tokens":4,"stream":true})",
             "x-emulator-fault: error-only-after=1\r\n");
  CHECK(messages.body.find("event: error\n") != std::string::npos);
  const reply responses =
      e.post("/v1/responses", R"({"model":"tiny","input":"x","max_output_tokens":4,"stream":true})",
             "x-emulator-fault: error-only-after=1\r\n");
  CHECK(responses.body.find("event: response.failed\n") != std::string::npos);
}

TEST_CASE("answers that never come, or come as errors") {
  engine e;
  for (const bool streamed : {false, true}) {
    const auto with = [&](const std::string& fault) {
      return streamed ? stream_with(e, fault) : whole_with(e, fault);
    };
    CHECK(with("reset").raw.empty());
    CHECK(with("reset").end == ending::rst);
    CHECK(with("close").end == ending::fin);
    const reply garbage = with("garbage");
    CHECK(garbage.status == 0);
    CHECK(garbage.raw.find("not http") != std::string::npos);
    CHECK(with("500").status == 500);
    const reply busy = with("429");
    CHECK(busy.status == 429);
    CHECK(busy.head.find("retry-after: 1\r\n") != std::string::npos);
    CHECK(with("503=7").head.find("retry-after: 7\r\n") != std::string::npos);
    CHECK(with("status=418,retry-after=3").status == 418);
  }
  CHECK(whole_with(e, "die-after=3").end == ending::rst);
  CHECK(whole_with(e, "cut-after=3").raw.empty());
  const reply half = whole_with(e, "half-chunk-after=3");
  CHECK(half.status == 200);
  CHECK_FALSE(half.complete);
  CHECK(!half.body.empty());
  CHECK(whole_with(e, "error-event-after=2").status == 500);
  CHECK(whole_with(e, "nonsense").status == 400);
  CHECK(e.get("/v1/models").status == 200);
}

TEST_CASE("framing of all kinds carries the same answer") {
  engine e;
  const std::string body =
      e.post("/v1/completions", R"({"model":"tiny","prompt":"p","max_tokens":6,"stream":true})",
             "x-request-id: a\r\n")
          .body;
  for (const char* fault :
       {"dribble=1/0ms", "dribble=7/0ms", "chunk-bytes=1", "chunk-bytes=10", "events-per-chunk=2",
        "events-per-chunk=100", "informational", "events-per-chunk=3,chunk-bytes=5,dribble=2/0"}) {
    CAPTURE(fault);
    const reply r = e.post("/v1/completions", R"({"model":"tiny","prompt":"p","max_tokens":6,"stream":true})",
                           std::string("x-request-id: a\r\nx-emulator-fault: ") + fault + "\r\n");
    CHECK(r.complete);
    const auto strip = [](std::string s) { return s.erase(s.find("\"created\":"), 20); };
    CHECK(r.data().size() == 7);
    CHECK(r.body.size() == body.size());
    CHECK(strip(r.data()[0]) == strip(body.substr(6, body.find("\n\n") - 6)));
  }
  CHECK(e.post("/v1/completions", R"({"model":"tiny","prompt":"p","max_tokens":6,"stream":true})",
               "x-emulator-fault: chunk-bytes=10\r\n")
            .chunks.at(3)
            .size() == 10);
  const reply big = stream_with(e, "big-event=2000000");
  CHECK(big.complete);
  CHECK(big.chunks.at(2).size() > 2000000);
}

TEST_CASE("delays and stalls") {
  engine e;
  using clock = std::chrono::steady_clock;
  const std::chrono::milliseconds delay(150);
  {
    client c(e.port());
    const auto start = clock::now();
    c.post("/v1/chat/completions", stream_body, "x-emulator-fault: delay-head=150ms\r\n");
    const reply r = c.read();
    CHECK(clock::now() - start >= delay);
    CHECK(has_done(r));
  }
  {
    client c(e.port());
    const auto start = clock::now();
    c.post("/v1/chat/completions", stream_body, "x-emulator-fault: delay-first=150\r\n");
    const std::string head = c.read_until("\r\n\r\n");
    CHECK(head.ends_with("\r\n\r\n"));  // no event comes with it
    const std::string first = c.read_some();
    CHECK(clock::now() - start >= delay);
    CHECK(c.read_until("0\r\n\r\n", first).find("delta") != std::string::npos);
  }
  {
    client c(e.port());
    c.post("/v1/chat/completions", stream_body, "x-emulator-fault: stall-after=3\r\n");
    std::string all;
    while (c.readable_within(std::chrono::milliseconds(200))) all += c.read_some();
    CHECK(c.end() == ending::open);
    CHECK(all.find("[DONE]") == std::string::npos);
    CHECK(all.find("delta") != std::string::npos);
  }
  CHECK(engine::eventually([&] { return e.debug("aborted") == 1; }));
}

TEST_CASE("slow stretches one request and leaves others alone") {
  engine e(slow_options());
  client slow(e.port());
  const auto start = std::chrono::steady_clock::now();
  slow.post("/v1/chat/completions", stream_body, "x-emulator-fault: slow=10\r\n");
  CHECK(has_done(e.post("/v1/chat/completions", stream_body)));
  CHECK(has_done(slow.read()));
  CHECK(std::chrono::steady_clock::now() - start > std::chrono::milliseconds(10 * 8 * 20));
}

TEST_CASE("a client that leaves takes its sequences out of the engine at once, in every state") {
  auto options = slow_options();
  options.max_num_seqs = 2;
  engine e(options);
  client a(e.port()), b(e.port()), queued(e.port());
  a.post("/v1/chat/completions", long_stream);
  a.read_until("delta");
  b.post(
      "/v1/chat/completions",
      R"({"model":"tiny","messages":[{"role":"user","content":"x"}],"max_tokens":2000,"ignore_eos":true})");
  CHECK(engine::eventually([&] { return e.debug("running") == 2; }));
  queued.post("/v1/chat/completions", long_stream);
  CHECK(engine::eventually([&] { return e.debug("waiting") == 1; }));
  client probe(e.port());
  const auto state = [&] {
    probe.send("GET /metrics HTTP/1.1\r\nHost: e\r\n\r\n");
    const std::string m = probe.read().body;
    return m.substr(m.find("running{engine=\"0\",model_name=\"tiny\"} ") + 38, 1) +
           m.substr(m.find("waiting{engine=\"0\",model_name=\"tiny\"} ") + 38, 1);
  };
  REQUIRE(state() == "21");
  for (client* c : {&queued, &b, &a}) {
    const auto start = std::chrono::steady_clock::now();
    const std::string before = state();
    c->close();
    CHECK(engine::eventually([&] { return state() != before; }));
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(2));  // its answer takes 40 s
  }
  CHECK(state() == "00");
  CHECK(e.debug("aborted") == 3);
}

TEST_CASE("bodies and heads are logged as they came") {
  engine e;
  const std::string body =
      "{ \"seed\":9007199254740993,\"model\" : \"tiny\",\n\"prompt\":\"\\u00e9 x\", \"max_tokens\":1.0e0 }";
  client c(e.port());
  const std::string head =
      "POST /v1/completions HTTP/1.1\r\nhost:  e \r\nX-Odd:a,b\r\nContent-Type: "
      "application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
  c.send(head + "5\r\n" + body.substr(0, 5) + "\r\n");
  char size[16];
  std::snprintf(size, sizeof size, "%zx", body.size() - 5);
  c.send(std::string(size) + "\r\n" + body.substr(5) + "\r\n0\r\n\r\n");
  CHECK(c.read().status == 400);  // 1.0e0 is no integer
  CHECK(e.get("/debug/body").body == body);
  simdjson::dom::parser parser;
  std::string_view logged;
  const std::string log = e.get("/debug/requests").body;
  REQUIRE(parser.parse(log).at_pointer("/requests/0/head").get(logged) == simdjson::SUCCESS);
  CHECK(logged == head);
  CHECK(e.debug("refused") == 1);
  CHECK(e.get("/debug/requests", "DELETE").body.find("\"received\":0") != std::string::npos);
}

TEST_CASE("keep-alive, pipelines, one-byte pieces, HTTP/1.0 and nonsense") {
  engine e;
  client c(e.port());
  c.post("/v1/completions", R"({"prompt":"a","max_tokens":2,"stream":true})");
  c.post("/v1/completions", R"({"prompt":"a","max_tokens":1})");
  c.send("GET /version HTTP/1.1\r\nHost: e\r\n\r\n");
  CHECK(has_done(c.read()));
  CHECK(c.read().body.find("text_completion") != std::string::npos);
  CHECK(c.read().body == R"({"version":"0.32.0"})");
  for (const char byte : std::string("GET /version HTTP/1.1\r\nHost: e\r\n\r\n"))
    c.send(std::string(1, byte));
  CHECK(c.read().status == 200);

  client old(e.port());
  old.send(
      "POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 43\r\n\r\n"
      R"({"prompt":"a","max_tokens":2,"stream":true})");
  const reply r = old.read();
  CHECK(r.head.find("transfer-encoding") == std::string::npos);
  CHECK(has_done(r));
  CHECK(r.end == ending::fin);
  client bad(e.port());
  bad.send("\x16\x03\x01 what\r\n\r\n");
  CHECK(bad.read().status == 400);

  client expects(e.port());
  expects.send(
      "POST /v1/completions HTTP/1.1\r\nHost: e\r\nContent-Type: application/json\r\nExpect: "
      "100-continue\r\nContent-Length: 29\r\n\r\n");
  CHECK(expects.read_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  expects.send(R"({"prompt":"a","max_tokens":1})");
  CHECK(expects.read().status == 200);
}

TEST_CASE("idle connections are closed") {
  auto options = instant_options();
  options.keep_alive = std::chrono::milliseconds(100);
  engine e(options);
  client c(e.port());
  c.send("GET /health HTTP/1.1\r\nHost: e\r\n\r\n");
  CHECK(c.read().status == 200);
  CHECK(c.read_some().empty());
  CHECK(c.end() == ending::fin);
}

TEST_CASE("switches: when they hit, and the server's own faults") {
  auto options = instant_options();
  fault_rule rule;
  REQUIRE(parse_fault_rule("503@every:3", rule).empty());
  options.faults = {rule};
  engine e(options);
  std::string statuses;
  for (int i = 0; i < 6; ++i) statuses += e.post("/v1/chat/completions", chat_body).status == 503 ? 'x' : '.';
  CHECK(statuses == "..x..x");
  CHECK(whole_with(e, "none").status == 200);

  CHECK(e.post("/debug/faults", "unhealthy\nbad-metrics\n").status == 200);
  CHECK(e.get("/health").status == 503);
  CHECK(e.get("/metrics").body.find("NaN") != std::string::npos);
  CHECK(e.post("/debug/faults", "oops").status == 400);
  CHECK(e.get("/debug/faults").body == "unhealthy\nbad-metrics\n");

  client held(e.port());
  held.post("/debug/faults", "refuse");
  CHECK(held.read().status == 200);
  CHECK_THROWS(client(e.port()));
  held.post("/debug/faults", "reset-accept@first:1");
  CHECK(held.read().status == 200);
  client reset(e.port());
  CHECK(reset.read_some().empty());
  CHECK(reset.end() == ending::rst);
  CHECK(e.get("/health").status == 200);
}

TEST_CASE("a probability hits about its share and the same requests for one seed") {
  const auto pattern = [](std::uint64_t seed) {
    fault_rule rule;
    REQUIRE(parse_fault_rule("500@0.25", rule).empty());
    penstock::prng random(seed);
    std::string s;
    for (int i = 0; i < 1000; ++i) s += hits(rule, random) ? 'x' : '.';
    return s;
  };
  CHECK(pattern(1) == pattern(1));
  CHECK(pattern(1) != pattern(2));
  const std::string p = pattern(3);
  CHECK(std::count(p.begin(), p.end(), 'x') > 180);
  CHECK(std::count(p.begin(), p.end(), 'x') < 320);
}

TEST_CASE("kv_transfer_params from a client kill") {
  engine e;
  const reply r = e.post("/v1/completions",
                         R"({"model":"tiny","prompt":"x","kv_transfer_params":{"do_remote_prefill":true}})");
  CHECK(r.end == ending::rst);
}

TEST_CASE("SIGTERM ends streams as vLLM does") {
  engine e(slow_options());
  client c(e.port()), idle(e.port());
  c.post("/v1/chat/completions", long_stream);
  const std::string begin = c.read_until("delta\":{\"content");
  std::promise<void> done;
  asio::post(e.context(), [&] { e.server().terminate([&] { done.set_value(); }); });
  const std::string end = c.read_until("0\r\n\r\n");
  CHECK(end.find("data: {\"error\": {\"message\": \"EngineCore encountered") != std::string::npos);
  CHECK(end.ends_with("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"));
  CHECK(c.read_some().empty());
  CHECK(idle.read_some().empty());
  c.close();
  idle.close();
  CHECK(done.get_future().wait_for(std::chrono::seconds(3)) == std::future_status::ready);
}

TEST_CASE("exit-after takes the process down") {
  const pid_t child = fork();
  if (child == 0) {
    engine e;
    stream_with(e, "exit-after=2");
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 3);
}

TEST_CASE("command line") {
  const auto parse = [](std::vector<std::string> args) { return parse_engine_options(args); };
  const auto good =
      parse({"--port", "0", "--model=a", "--model", "b", "--class", "llama-3.1-8b-instruct/H100/tp1",
             "--speed", "2.5", "--fault", "die-after=3@0.5", "--lora", "l"});
  CHECK(good.error.empty());
  CHECK(good.options.models == std::vector<std::string>{"a", "b"});
  CHECK(good.options.speed == 2.5);
  CHECK(good.options.faults.size() == 1);
  CHECK(parse({"--prot", "1"}).error.find("unknown option \"--prot\"") != std::string::npos);
  CHECK(parse({"--port"}).error.find("needs a value") != std::string::npos);
  CHECK(!parse({"--port", "70000"}).error.empty());
  CHECK(!parse({"--port", "x"}).error.empty());
  CHECK(!parse({"--speed", "0"}).error.empty());
  CHECK(!parse({"--speed", "nan"}).error.empty());
  CHECK(!parse({"--no-prefix-caching=1"}).error.empty());
  CHECK(parse({"--class", "H100"}).error.find("Known classes:") != std::string::npos);
  CHECK(parse({"--fault", "explode"}).error.find("unknown fault \"explode\"") != std::string::npos);
  CHECK(!parse({"--fault", "500@often"}).error.empty());
  CHECK(!parse({"--fault", "500@2"}).error.empty());
  CHECK(!parse({"--fault", "die-after=x"}).error.empty());
  CHECK(parse({"--help"}).help);
  CHECK(engine_help().find("--max-num-batched-tokens N") != std::string::npos);
  CHECK(engine_help().find("error-event-after=N") != std::string::npos);
  const std::vector<std::string> unknown{"--nope"};
  CHECK(engine_main(unknown) == 1);
  const std::vector<std::string> elsewhere{"--host", "203.0.113.1", "--port", "9"};
  CHECK(engine_main(elsewhere) == 2);
}
