#include "health/metrics_text.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

using namespace penstock;
using namespace penstock::health;
using namespace std::chrono_literals;

namespace {

const instant t0 = instant{} + 1000s;

struct page {
  engine_state state;
  std::vector<std::string> warnings;
};

page read(std::string_view text, const std::string& engine = "") {
  page p;
  p.state = read_metrics(text, {engine}, t0, p.warnings);
  return p;
}

// Recorded from vLLM 0.32.0 under load; the labels of cache_config_info are shortened by some that are
// of no interest here.
constexpr std::string_view vllm_busy =
    "# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.\n"
    "# TYPE process_start_time_seconds gauge\n"
    "process_start_time_seconds 1.79536976012e+09\n"
    "# TYPE vllm:num_requests_running gauge\n"
    "vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 14.0\n"
    "# TYPE vllm:num_requests_waiting gauge\n"
    "vllm:num_requests_waiting{engine=\"0\",model_name=\"tiny\"} 6.0\n"
    "vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=\"tiny\",reason=\"capacity\"} 6.0\n"
    "vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=\"tiny\",reason=\"deferred\"} 0.0\n"
    "# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.\n"
    "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"tiny\"} 0.9568627450980393\n"
    "vllm:prefix_cache_queries_total{engine=\"0\",model_name=\"tiny\"} 26608.0\n"
    "vllm:prefix_cache_queries_created{engine=\"0\",model_name=\"tiny\"} 1.7953698150499148e+09\n"
    "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"tiny\"} 640.0\n"
    "vllm:prompt_tokens_total{engine=\"0\",model_name=\"tiny\"} 26608.0\n"
    "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
    "vllm:cache_config_info{_block_size_resolved=\"True\",block_size=\"32\",cache_dtype=\"auto\",engine="
    "\"0\","
    "gpu_memory_utilization=\"0.92\",kv_cache_dtype_skip_layers=\"[]\",kv_cache_size_tokens=\"8192\","
    "mamba_block_size=\"None\",num_cpu_blocks=\"None\",num_gpu_blocks=\"256\",sliding_window=\"None\"} 1.0\n";

// Recorded from llama.cpp b11434.
constexpr std::string_view llama =
    "# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens\n"
    "# TYPE llamacpp:prompt_tokens_total counter\n"
    "llamacpp:prompt_tokens_total 404\n"
    "# TYPE llamacpp:prompt_tokens_cached_total counter\n"
    "llamacpp:prompt_tokens_cached_total 492\n"
    "llamacpp:prompt_tokens_seconds 20486.8\n"
    "llamacpp:requests_processing 3\n"
    "llamacpp:requests_deferred 2\n"
    "llamacpp:n_busy_slots_per_decode 1\n";

}  // namespace

TEST_CASE("metrics: a host tier behind the cache is read, the same tier of several ranks once") {
  const auto sglang = read(
      "sglang:max_total_num_tokens{tp_rank=\"0\"} 100000\n"
      "sglang:hicache_host_total_tokens{tp_rank=\"0\"} 932032\n"
      "sglang:hicache_host_total_tokens{tp_rank=\"1\"} 932032\n");
  CHECK(sglang.state.host_kv_tokens == 932032);
  const auto vllm =
      read("vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"1000\",num_cpu_blocks=\"4000\"} 1\n");
  CHECK(vllm.state.kv_tokens == 16000);
  CHECK(vllm.state.host_kv_tokens == 64000);
  CHECK(read("vllm:cache_config_info{block_size=\"16\",num_cpu_blocks=\"None\"} 1\n").state.host_kv_tokens ==
        0);
  CHECK(read("sglang:hicache_host_total_tokens -5\n").state.host_kv_tokens == 0);
  CHECK(read("sglang:hicache_host_total_tokens 1e300\n").state.host_kv_tokens == 0);
}

TEST_CASE("vLLM") {
  const auto p = read(vllm_busy);
  CHECK(p.warnings.empty());
  CHECK(p.state.running == 14);
  CHECK(p.state.waiting == 6);
  CHECK(p.state.without_room == 6);
  CHECK(p.state.kv_use == doctest::Approx(0.9568627450980393));
  CHECK(p.state.block_tokens == 32);
  CHECK(p.state.kv_blocks == 256);
  CHECK(p.state.kv_tokens == 8192);
  CHECK(p.state.prefix_hits == 640);
  CHECK(p.state.prefix_queries == 26608);
  CHECK(p.state.start_time_s == doctest::Approx(1795369760.12));
  CHECK(p.state.scraped_at == t0);
}

TEST_CASE("llama.cpp: queries are what it computed and what it had") {
  const auto p = read(llama);
  CHECK(p.warnings.empty());
  CHECK(p.state.running == 3);
  CHECK(p.state.waiting == 2);
  CHECK(p.state.without_room == -1);
  CHECK(p.state.prefix_hits == 492);
  CHECK(p.state.prefix_queries == 896);
  CHECK(p.state.kv_use == -1);
  CHECK(p.state.kv_tokens == 0);
  CHECK(p.state.start_time_s == 0);
  CHECK(p.state.scraped_at == t0);
}

TEST_CASE("SGLang, with a colon and with an underscore") {
  const std::string colon =
      "sglang:num_running_reqs{model_name=\"m\"} 7\nsglang:num_queue_reqs{model_name=\"m\"} 2\n"
      "sglang:token_usage{model_name=\"m\"} 0.28\n"
      "sglang:cache_config_info{page_size=\"64\",num_pages=\"1000\"} 1\n"
      "sglang:prompt_tokens_total{model_name=\"m\"} 900\n"
      "sglang:cached_tokens_total{model_name=\"m\",cache_source=\"device\"} 300\n"
      "sglang:cached_tokens_total{model_name=\"m\",cache_source=\"host\"} 30\n";
  auto underscore = colon;
  for (std::size_t at = 0; (at = underscore.find("sglang:")) != std::string::npos;) underscore[at + 6] = '_';
  for (const auto& text : {colon, underscore}) {
    const auto p = read(text);
    CHECK(p.warnings.empty());
    CHECK(p.state.running == 7);
    CHECK(p.state.waiting == 2);
    CHECK(p.state.kv_use == doctest::Approx(0.28));
    CHECK(p.state.block_tokens == 64);
    CHECK(p.state.kv_blocks == 1000);
    CHECK(p.state.kv_tokens == 64000);
    CHECK(p.state.prefix_hits == 330);
    CHECK(p.state.prefix_queries == 900);
  }
}

TEST_CASE("SGLang: gauges of capacity, and series that count the same requests again") {
  const auto p = read(
      "sglang:page_size{tp_rank=\"0\"} 16\nsglang:num_pages{tp_rank=\"0\"} 62500\n"
      "sglang:max_total_num_tokens{tp_rank=\"0\"} 1000003\n"
      "sglang:num_running_reqs{tp_rank=\"0\",pp_rank=\"0\",priority=\"\"} 9\n"
      "sglang:num_running_reqs{tp_rank=\"0\",pp_rank=\"0\",priority=\"5\"} 4\n"
      "sglang:num_running_reqs{tp_rank=\"1\",pp_rank=\"0\",priority=\"\"} 9\n"
      "sglang:num_running_reqs{tp_rank=\"0\",pp_rank=\"1\",priority=\"\"} 9\n"
      "sglang:num_queue_reqs{tp_rank=\"0\",dp_rank=\"0\"} 1\n"
      "sglang:num_queue_reqs{tp_rank=\"1\",dp_rank=\"1\"} 2\n");
  CHECK(p.state.block_tokens == 16);
  CHECK(p.state.kv_blocks == 62500);
  CHECK(p.state.kv_tokens == 1000003);
  CHECK(p.state.running == 9);
  CHECK(p.state.waiting == 3);  // data-parallel ranks do differ
}

TEST_CASE("TensorRT-LLM") {
  const auto p = read(
      "trtllm_num_requests_running 5.0\ntrtllm_num_requests_waiting{engine_type=\"trt\"} 1.0\n"
      "trtllm_kv_cache_utilization 0.5\ntrtllm_kv_cache_tokens_per_block 32.0\n"
      "trtllm_kv_cache_max_blocks 2000.0\ntrtllm_kv_cache_reused_blocks_total 10.0\n"
      "trtllm_kv_cache_missed_blocks_total 30.0\n");
  CHECK(p.state.running == 5);
  CHECK(p.state.waiting == 1);
  CHECK(p.state.kv_use == 0.5);
  CHECK(p.state.block_tokens == 32);
  CHECK(p.state.kv_blocks == 2000);
  CHECK(p.state.kv_tokens == 64000);
  CHECK(p.state.prefix_hits == 320);
  CHECK(p.state.prefix_queries == 1280);
}

TEST_CASE("Triton with the TensorRT-LLM backend") {
  const std::string labels = ",model=\"tensorrt_llm\",version=\"1\"}";
  const auto p =
      read("nv_trt_llm_request_metrics{request_type=\"waiting\"" + labels + " 4\n" +
           "nv_trt_llm_request_metrics{request_type=\"context\"" + labels + " 100\n" +
           "nv_trt_llm_request_metrics{request_type=\"scheduled\"" + labels + " 8\n" +
           "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\"" + labels + " 0.4\n" +
           "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"tokens_per\"" + labels + " 64\n" +
           "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"used\"" + labels + " 250\n" +
           "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"max\"" + labels + " 625\n");
  CHECK(p.state.running == 8);
  CHECK(p.state.waiting == 4);
  CHECK(p.state.kv_use == 0.4);
  CHECK(p.state.block_tokens == 64);
  CHECK(p.state.kv_blocks == 625);
  CHECK(p.state.kv_tokens == 40000);
}

TEST_CASE("names of older vLLM count only where the new ones are missing") {
  const auto older = read(
      "vllm:gpu_cache_usage_perc 0.3\nvllm:gpu_prefix_cache_hits_total 1\n"
      "vllm:gpu_prefix_cache_queries_total 2\n");
  CHECK(older.state.kv_use == 0.3);
  CHECK(older.state.prefix_queries == 2);
  const auto both = read("vllm:gpu_cache_usage_perc 0.3\nvllm:kv_cache_usage_perc 0.4\n");
  CHECK(both.state.kv_use == 0.4);
}

TEST_CASE("data-parallel ranks are summed, or one is selected") {
  const std::string text =
      "process_start_time_seconds 1700000000\n"
      "vllm:num_requests_running{engine=\"0\"} 3\nvllm:num_requests_running{engine=\"1\"} 5\n"
      "vllm:kv_cache_usage_perc{engine=\"0\"} 0.2\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.6\n"
      "vllm:prefix_cache_queries_total{engine=\"0\"} 10\nvllm:prefix_cache_queries_total{engine=\"1\"} 20\n"
      "vllm:cache_config_info{engine=\"0\",block_size=\"16\",num_gpu_blocks=\"100\"} 1\n"
      "vllm:cache_config_info{engine=\"1\",block_size=\"16\",num_gpu_blocks=\"300\"} 1\n";
  const auto all = read(text);
  CHECK(all.state.running == 8);
  CHECK(all.state.kv_use == doctest::Approx(0.4));
  CHECK(all.state.prefix_queries == 30);
  CHECK(all.state.block_tokens == 16);
  CHECK(all.state.kv_blocks == 400);
  CHECK(all.state.kv_tokens == 6400);

  const auto one = read(text, "1");
  CHECK(one.state.running == 5);
  CHECK(one.state.kv_use == 0.6);
  CHECK(one.state.prefix_queries == 20);
  CHECK(one.state.kv_blocks == 300);
  CHECK(one.state.start_time_s == 1.7e9);
  CHECK(one.warnings.empty());

  const auto none = read(text, "7");
  CHECK(none.state.running == -1);
  CHECK(none.state.scraped_at == instant{});
  REQUIRE(none.warnings.size() == 1);
  CHECK(none.warnings[0] == "no series with engine label \"7\"");
}

TEST_CASE("SGLang's ranks are selected by dp_rank") {
  const auto p =
      read("sglang:num_running_reqs{dp_rank=\"0\"} 3\nsglang:num_running_reqs{dp_rank=\"1\"} 5\n", "1");
  CHECK(p.state.running == 5);
}

TEST_CASE("adapters: the latest series is the present one") {
  const auto p = read(
      "vllm:num_requests_running 1\n"
      "vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"old\",waiting_lora_adapters=\"\"} 100\n"
      "vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"a,b\",waiting_lora_adapters=\"c,\"} "
      "200\n"
      "vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"older\",waiting_lora_adapters=\"\"} "
      "50\n"
      "vllm:lora_requests_info{running_lora_adapters=\"mad\"} NaN\n");
  CHECK(p.state.running_loras == std::vector<std::string>{"a", "b"});
  CHECK(p.state.waiting_loras == std::vector<std::string>{"c"});
  CHECK(p.state.max_loras == 4);
  CHECK(p.warnings.size() == 1);
}

TEST_CASE("adapter lists are bounded") {
  std::string names;
  for (int i = 0; i < 5000; ++i) names += "x" + std::to_string(i) + ",";
  const auto p = read("vllm:lora_requests_info{max_lora=\"1e99\",running_lora_adapters=\"" + names +
                      std::string(300, 'y') + "\"} 1\n");
  CHECK(p.state.running_loras.size() == 1024);
  CHECK(p.state.max_loras == 0);
}

TEST_CASE("absurd values are unknown and told") {
  const std::vector<std::string> absurd = {"NaN",  "nan",   "Inf",    "+Inf",
                                           "-Inf", "-1",    "-0.01",  "1e18",
                                           "1e19", "1e400", "-1e400", "18446744073709551616"};
  struct figure_of {
    std::string metric;
    double engine_state::*value;
  };
  const std::vector<figure_of> plain = {
      {"vllm:num_requests_running", &engine_state::running},
      {"vllm:num_requests_waiting", &engine_state::waiting},
      {"vllm:kv_cache_usage_perc", &engine_state::kv_use},
      {"sglang:token_usage", &engine_state::kv_use},
      {"llamacpp:requests_processing", &engine_state::running},
      {"trtllm_num_requests_waiting", &engine_state::waiting},
  };
  for (const auto& value : absurd) {
    CAPTURE(value);
    for (const auto& f : plain) {
      CAPTURE(f.metric);
      const auto p = read(f.metric + "{engine=\"0\"} " + value + "\nvllm:prefix_cache_queries_total 1\n");
      CHECK(p.state.*f.value == -1);
      REQUIRE(p.warnings.size() == 1);
      CHECK(p.warnings[0].starts_with(f.metric + ": absurd value"));
      CHECK(p.state.scraped_at == t0);
    }
    const auto gauge = read("trtllm_kv_cache_max_blocks " + value + "\ntrtllm_kv_cache_tokens_per_block " +
                            value + "\ntrtllm_num_requests_running 1\n");
    CHECK(gauge.state.kv_blocks == 0);
    CHECK(gauge.state.block_tokens == 0);
    CHECK(gauge.state.kv_tokens == 0);
    CHECK(gauge.warnings.size() == 2);

    const auto labels =
        read("vllm:num_requests_running 1\nvllm:cache_config_info{block_size=\"" + value +
             "\",num_gpu_blocks=\"" + value + "\",kv_cache_size_tokens=\"" + value + "\"} 1\n");
    CHECK(labels.state.block_tokens == 0);
    CHECK(labels.state.kv_blocks == 0);
    CHECK(labels.state.kv_tokens == 0);
    CHECK(labels.state.running == 1);
    CHECK(labels.warnings.size() == 3);

    const auto start = read("process_start_time_seconds " + value + "\nvllm:num_requests_running 1\n");
    CHECK(start.state.start_time_s == 0);
  }
  for (const std::string value : {"NaN", "Inf", "-1", "1e19"}) {
    const auto p = read("vllm:prefix_cache_queries_total " + value + "\nvllm:prefix_cache_hits_total " +
                        value + "\nvllm:num_requests_running 1\n");
    CHECK(p.state.prefix_queries == -1);
    CHECK(p.state.prefix_hits == -1);
  }
  CHECK(read("vllm:kv_cache_usage_perc 1.06\n").state.kv_use == -1);
  CHECK(read("vllm:kv_cache_usage_perc 1.0000001\n").state.kv_use == 1);
  CHECK(read("vllm:kv_cache_usage_perc -0.0\n").state.kv_use == 0);
  CHECK(read("vllm:num_requests_running 10000001\n").state.running == -1);
}

TEST_CASE("one absurd rank makes the sum unknown: half a counter would look like a restart") {
  const auto p = read(
      "vllm:prefix_cache_queries_total{engine=\"0\"} 10\nvllm:prefix_cache_queries_total{engine=\"1\"} "
      "NaN\n");
  CHECK(p.state.prefix_queries == -1);
  // Of no concern to the endpoint of the other rank.
  CHECK(read("vllm:num_requests_running{engine=\"0\"} 10\nvllm:num_requests_running{engine=\"1\"} NaN\n", "0")
            .state.running == 10);
}

TEST_CASE("a sum beyond what fits is unknown, not undefined") {
  std::string text = "vllm:num_requests_running 1\n";
  for (int i = 0; i < 2000; ++i) {
    text += "vllm:cache_config_info{engine=\"" + std::to_string(i) +
            "\",num_gpu_blocks=\"1e10\",kv_cache_size_tokens=\"1e12\",block_size=\"16\"} 1\n";
  }
  const auto p = read(text);
  CHECK(p.state.kv_blocks == 0);
  CHECK(p.state.kv_tokens == 0);
}

TEST_CASE("an engine that has not measured its capacity yet says None") {
  const auto p =
      read("vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"None\",kv_cache_size_tokens=\"\"} 1\n");
  CHECK(p.state.block_tokens == 16);
  CHECK(p.state.kv_blocks == 0);
  CHECK(p.state.kv_tokens == 0);
  CHECK(p.warnings.empty());
}

TEST_CASE("exotic but correct syntax") {
  const std::vector<std::string> lines = {
      "vllm:num_requests_running 5",
      "vllm:num_requests_running{} 5",
      "vllm:num_requests_running {engine=\"0\"} 5",
      "vllm:num_requests_running{engine=\"0\",} 5",
      "vllm:num_requests_running{ engine = \"0\" , model_name=\"m\" } 5",
      "  \tvllm:num_requests_running\t5",
      "vllm:num_requests_running +5",
      "vllm:num_requests_running 5e0 1395066363000",
      "vllm:num_requests_running 5.0 -3982045",
      "vllm:num_requests_running{engine=\"0\"}5",
      "vllm:num_requests_running{engine=\"0\"} 5 # {trace_id=\"KOO5S4vxi0o\"} 0.67",
      "vllm:num_requests_running{engine=\"0\"} 5 1520879607.789 # {trace_id=\"a } b\"} 9.8 1520879607.789",
      "vllm:num_requests_running{model_name=\"a\\\\\",engine=\"0\"} 5",
      "vllm:num_requests_running{model_name=\"a\\\" } 9 \",engine=\"0\"} 5",
      "vllm:num_requests_running{model_name=\"a\\nb\",engine=\"0\"} 5",
      "vllm:num_requests_running{model_name=\"{,}=#\",engine=\"0\"} 5",
      "vllm:num_requests_running{model_name=\"\xe6\xa8\xa1\xe5\x9e\x8b\",engine=\"0\"} 5",
      "{\"vllm:num_requests_running\",engine=\"0\"} 5",
      "{ \"vllm:num_requests_running\" } 5",
  };
  for (const auto& line : lines) {
    for (const std::string end : {"", "\n", "\r\n", "\n# EOF\n", "\n\n \n"}) {
      const auto p = read("# a comment\r\n\n" + line + end, "0");
      CHECK_MESSAGE(p.state.running == 5, line);
      CHECK(p.warnings.empty());
    }
  }
}

TEST_CASE("broken lines make their figure unknown and hurt no other line") {
  for (const std::string line :
       {"vllm:num_requests_running", "vllm:num_requests_running{", "vllm:num_requests_running{engine",
        "vllm:num_requests_running{engine=", "vllm:num_requests_running{engine=0} 5",
        "vllm:num_requests_running{engine=\"0} 5", "vllm:num_requests_running{engine=\"0\\\"} 5",
        "vllm:num_requests_running{engine=\"0\"", "vllm:num_requests_running{engine=\"0\" model=\"x\"} 5",
        "vllm:num_requests_running{engine=\"0\"} ", "vllm:num_requests_running five",
        "vllm:num_requests_running 5x", "vllm:num_requests_running 0x5p1x", "vllm:num_requests_running ++5",
        "vllm:num_requests_running{=\"0\"} 5", "vllm:num_requests_running{,} 5"}) {
    const auto p = read(line + "\nvllm:num_requests_waiting 2\n");
    CHECK_MESSAGE(p.state.running == -1, line);
    CHECK(p.state.waiting == 2);
    CHECK(p.warnings.size() == 1);
  }
  const auto p =
      read("{\"\"} 1\n{\n{5} 1\n{\"vllm:num_requests_running\n\"\n=\nvllm:num_requests_waiting 2\n");
  CHECK(p.state.waiting == 2);
}

TEST_CASE("a page cut anywhere gives figures of whole lines only, or a shorter last number") {
  for (std::size_t cut = 0; cut <= vllm_busy.size(); ++cut) {
    const auto p = read(vllm_busy.substr(0, cut));
    CHECK((p.state.running == -1 || p.state.running == 1 || p.state.running == 14));
    CHECK((p.state.kv_blocks == 0 || p.state.kv_blocks == 256));
    CHECK((p.state.kv_use == -1 || (p.state.kv_use >= 0 && p.state.kv_use < 0.957)));
    CHECK((p.state.prefix_hits == -1 || p.state.prefix_hits <= 640));
  }
}

TEST_CASE("what is no metrics page counts as a failed scrape") {
  for (const std::string text : {"", "<html><body>404</body></html>", "{\"detail\":\"Not Found\"}",
                                 "process_start_time_seconds 1700000000\n", "go_goroutines 8\n"}) {
    const auto p = read(text);
    CHECK(p.state.scraped_at == instant{});
    REQUIRE(p.warnings.size() == 1);
    CHECK(p.warnings[0] == "no metric of a known engine");
  }
}

TEST_CASE("warnings are bounded, and those of before stay") {
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "vllm:num_requests_running NaN\n";
  std::vector<std::string> warnings = {"before"};
  read_metrics(text, {}, t0, warnings);
  CHECK(warnings.size() == 1 + max_metrics_warnings);
  CHECK(warnings[0] == "before");
}

TEST_CASE("labels beyond the bound are left out, the value still counts") {
  std::string text = "vllm:num_requests_running{";
  for (int i = 0; i < 100000; ++i) text += "l" + std::to_string(i) + "=\"v\",";
  CHECK(read(text + "} 5\n").state.running == 5);
}
