// Keys of [[pool]] and of what stands below it. Sources of the defaults are named in the texts.
#pragma once

#include <array>

#include "proxy/config/schema.hpp"

namespace penstock::conf {

inline constexpr std::array<std::string_view, 3> role_names{penstock::name(endpoint_role::both),
                                                            penstock::name(endpoint_role::prefill),
                                                            penstock::name(endpoint_role::decode)};
inline constexpr std::array<std::string_view, policy_count> policy_names{
    penstock::name(policy::prefix),       penstock::name(policy::consistent_hash),
    penstock::name(policy::least_tokens), penstock::name(policy::least_requests),
    penstock::name(policy::round_robin),  penstock::name(policy::random)};
inline constexpr std::array<std::string_view, connector_count> connector_names{
    penstock::name(connector_kind::nixl), penstock::name(connector_kind::mooncake),
    penstock::name(connector_kind::sglang), penstock::name(connector_kind::trtllm),
    penstock::name(connector_kind::moriio)};
inline constexpr std::array<std::string_view, 3> split_names{"cost", "always", "never"};

inline constexpr key_spec disaggregation_keys[] = {
    {.name = "connector",
     .type = value_type::choice,
     .fallback = "nixl",
     .choices = connector_names,
     .text =
         "How the engines pass KV cache on. One leg after the other: vLLM's `nixl` and `moriio` (read mode), "
         "TensorRT-LLM's `trtllm`. Both at once: vLLM's `mooncake` and SGLang's `sglang`, whose decode "
         "engines "
         "take no whole requests.",
     .member = slot_of<&disaggregation_config::connector>()},
    {.name = "split",
     .type = value_type::choice_or_count,
     .fallback = "cost",
     .least = "0",
     .most = "1000000000",
     .choices = split_names,
     .text =
         "Which requests are prefilled on one engine and decoded on another. `cost` compares what is "
         "expected "
         "of both ways, per request. A number splits requests with at least so many prompt tokens that the "
         "decode engine does not hold.",
     .member = slot_of<&disaggregation_config::split>()},
    {.name = "lease",
     .type = value_type::duration,
     .fallback = "0s",
     .least = "1s",
     .most = "1h",
     .special = "`nixl` 30s, `trtllm` and `moriio` 60s, `sglang` 300s, `mooncake` 480s",
     .zero_allowed = true,
     .text = "How long a prefill engine holds blocks that nobody fetched; no decode starts after half of it. "
             "vLLM: "
             "`kv_lease_duration`, 30 s from 0.22 on; before that, and with Mooncake, its abort timeout of "
             "480 s.",
     .member = slot_of<&disaggregation_config::lease>()},
};

inline constexpr key_spec pool_keys[] = {
    {.name = "name",
     .type = value_type::text,
     .fallback = "main",
     .text = "Unique; a label of metrics and log lines: letters, digits, `_`, `-`, `.`, at most 64.",
     .member = slot_of<&pool_config::name>()},
    {.name = "models",
     .type = value_type::text_list,
     .fallback = "*",
     .text = "Model names that requests ask for. `*` takes every name that no other pool serves; the "
             "engine's 404 "
             "is then the answer to unknown ones.",
     .member = slot_of<&pool_config::models>()},
    {.name = "policy",
     .type = value_type::choice,
     .fallback = "prefix",
     .choices = policy_names,
     .text =
         "How an endpoint is chosen. `prefix` weighs held prefixes against load, the others are baselines "
         "and special cases.",
     .member = slot_of<&pool_config::route>()},
};

inline constexpr key_spec endpoint_keys[] = {
    {.name = "url",
     .type = value_type::text,
     .required = true,
     .sample = "\"http://127.0.0.1:8000\"",
     .text = "`http://host:port[/prefix]` or `unix:/path`.",
     .member = slot_of<&endpoint_config::url>()},
    {.name = "role",
     .type = value_type::choice,
     .fallback = "both",
     .choices = role_names,
     .text = "What the engine does: whole requests, or one of the two parts of split ones.",
     .member = slot_of<&endpoint_config::role>()},
    {.name = "group",
     .type = value_type::text,
     .fallback = "",
     .text = "Label: prefill and decode engines that belong together.",
     .member = slot_of<&endpoint_config::group>()},
    {.name = "zone",
     .type = value_type::text,
     .fallback = "",
     .text = "Label: where it runs.",
     .member = slot_of<&endpoint_config::zone>()},
    {.name = "build",
     .type = value_type::text,
     .fallback = "",
     .text = "Label: engine build, for rollouts.",
     .member = slot_of<&endpoint_config::build>()},
    {.name = "api_key",
     .type = value_type::text,
     .fallback = "",
     .secret = true,
     .text =
         "Sent as `Authorization: Bearer ...` with probes, scrapes and requests, in place of the client's. "
         "Best as `\"${VARIABLE}\"`.",
     .member = slot_of<&endpoint_config::api_key>()},
    {.name = "headers",
     .type = value_type::headers,
     .fallback = "",
     .secret = true,
     .text =
         "More header fields for probes, scrapes and requests, in place of the client's of the same name.",
     .member = slot_of<&endpoint_config::headers>()},
    {.name = "kv_tokens",
     .type = value_type::integer,
     .fallback = "0",
     .least = "1",
     .most = "1000000000000",
     .special = "read from the engine's metrics",
     .zero_allowed = true,
     .text = "Tokens that the engine's KV cache holds. Needed for engines whose metrics do not tell.",
     .member = slot_of<&endpoint_config::kv_tokens>()},
    {.name = "data_parallel_rank",
     .type = value_type::integer,
     .fallback = "-1",
     .least = "-1",
     .most = "65535",
     .special = "-1: none",
     .text =
         "Rank behind one address of a data-parallel engine. Each rank is an endpoint of its own; list all "
         "of a SGLang prefill engine's, or none.",
     .member = slot_of<&endpoint_config::data_parallel_rank>()},
    {.name = "engine_label",
     .type = value_type::text,
     .fallback = "",
     .text = "Value of the `engine` label of this endpoint's metrics; \"\" takes every series, or the one of "
             "the rank.",
     .member = slot_of<&endpoint_config::engine_label>()},
    {.name = "bootstrap",
     .type = value_type::text,
     .fallback = "",
     .text = "`host:port` of a prefill engine's bootstrap server, where the connector needs one: `mooncake`, "
             "and `sglang`, whose default is the host of `url` and port 8998.",
     .member = slot_of<&endpoint_config::bootstrap>()},
    {.name = "tensor_parallel",
     .type = value_type::integer,
     .fallback = "0",
     .least = "1",
     .most = "1024",
     .special = "not stated",
     .zero_allowed = true,
     .text =
         "Tensor-parallel size. Where it is stated, engines that could not take each other's KV cache are "
         "refused.",
     .member = slot_of<&endpoint_config::tensor_parallel>()},
};

}  // namespace penstock::conf
