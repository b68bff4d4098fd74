// Request bodies as SDKs put them on the wire, recorded from a server on loopback that answered with one
// message (or tool call), which the SDK's user appended as it came.
#pragma once

#include <string_view>

namespace penstock::tokenizer::sdk {

// Recorded from openai-python 3.54.0.
inline constexpr std::string_view chat_turn_1 =
    R"json({"model":"m","messages":[{"role":"system","content":"You are a careful assistant. Answer in one )json"
    R"json(sentence, name your sources and say \"I do not know\" where you do not."},{"role":"user","conten)json"
    R"json(t":"What does a bridge do?\nIn one sentence, s'il vous plaît."}],"temperature":0})json";

inline constexpr std::string_view chat_turn_2 =
    R"json({"model":"m","stream":false,"messages":[{"role":"system","content":"You are a careful assistant.)json"
    R"json( Answer in one sentence, name your sources and say \"I do not know\" where you do not."},{"role")json"
    R"json(:"user","content":"What does a bridge do?\nIn one sentence, s'il vous plaît."},{"content":"A bri)json"
    R"json(dge carries a road over water.","refusal":null,"role":"assistant"},{"role":"user","content":"And)json"
    R"json( a tunnel? 🚇"}],"max_tokens":20,"temperature":0})json";

inline constexpr std::string_view tools_turn_1 =
    R"json({"model":"m","messages":[{"role":"user","content":"Weather in Oslo?"}],"tools":[{"type":"functio)json"
    R"json(n","function":{"name":"get_weather","description":"Weather of a city","parameters":{"type":"obje)json"
    R"json(ct","properties":{"city":{"type":"string"}},"required":["city"]}}}]})json";

inline constexpr std::string_view tools_turn_2 =
    R"json({"model":"m","messages":[{"role":"user","content":"Weather in Oslo?"},{"content":null,"role":"as)json"
    R"json(sistant","tool_calls":[{"id":"call_1","function":{"arguments":"{\"city\":\"Oslo\"}","name":"get_)json"
    R"json(weather"},"type":"function"}]},{"role":"tool","tool_call_id":"call_1","content":"3 degrees"}],"t)json"
    R"json(ools":[{"type":"function","function":{"name":"get_weather","description":"Weather of a city","pa)json"
    R"json(rameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]})json";

inline constexpr std::string_view chat_images =
    R"json({"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"What is this?"},{"type)json"
    R"json(":"image_url","image_url":{"url":"https://example.com/a.png?sig=1","detail":"low"}},{"type":"ima)json"
    R"json(ge_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}]})json";

inline constexpr std::string_view responses_turn_1 =
    R"json({"model":"m","input":[{"role":"user","content":"What does a bridge do?"}],"instructions":"You ar)json"
    R"json(e a careful assistant. Answer in one sentence, name your sources and say \"I do not know\" where)json"
    R"json( you do not."})json";

inline constexpr std::string_view responses_turn_2 =
    R"json({"model":"m","input":[{"role":"user","content":"What does a bridge do?"},{"id":"rs_1","summary":)json"
    R"json([],"type":"reasoning","content":[{"text":"Think of spans.","type":"reasoning_text"}]},{"id":"msg)json"
    R"json(_1","content":[{"annotations":[],"text":"A bridge carries a road over water.","type":"output_tex)json"
    R"json(t"}],"role":"assistant","status":"completed","type":"message"},{"role":"user","content":"And a t)json"
    R"json(unnel?"}],"instructions":"You are a careful assistant. Answer in one sentence, name your sources)json"
    R"json( and say \"I do not know\" where you do not."})json";

inline constexpr std::string_view responses_string =
    R"json({"model":"m","input":"What does a bridge do?","instructions":"You are a careful assistant. Answe)json"
    R"json(r in one sentence, name your sources and say \"I do not know\" where you do not."})json";

inline constexpr std::string_view responses_continued =
    R"json({"model":"m","input":"And a tunnel?","instructions":"You are a careful assistant. Answer in one )json"
    R"json(sentence, name your sources and say \"I do not know\" where you do not.","previous_response_id":)json"
    R"json("resp_1"})json";

// Recorded from anthropic-sdk-python 2.12.0; cache_control moves to the last message, as in its
// documentation.
inline constexpr std::string_view messages_turn_1 =
    R"json({"max_tokens":50,"messages":[{"role":"user","content":[{"type":"text","text":"What does a bridge)json"
    R"json( do?","cache_control":{"type":"ephemeral"}}]}],"model":"m","system":[{"type":"text","text":"You )json"
    R"json(are a careful assistant. Answer in one sentence, name your sources and say \"I do not know\" whe)json"
    R"json(re you do not.","cache_control":{"type":"ephemeral"}}],"tools":[{"name":"get_weather","descripti)json"
    R"json(on":"Weather of a city","input_schema":{"type":"object","properties":{"city":{"type":"string"}},)json"
    R"json("required":["city"]}}]})json";

inline constexpr std::string_view messages_turn_2 =
    R"json({"max_tokens":50,"messages":[{"role":"user","content":[{"type":"text","text":"What does a bridge)json"
    R"json( do?"}]},{"role":"assistant","content":[{"text":"A bridge carries a road over water.","type":"te)json"
    R"json(xt"}]},{"role":"user","content":[{"type":"text","text":"And a tunnel?","cache_control":{"type":")json"
    R"json(ephemeral"}}]}],"model":"m","system":[{"type":"text","text":"You are a careful assistant. Answer)json"
    R"json( in one sentence, name your sources and say \"I do not know\" where you do not."}],"tools":[{"na)json"
    R"json(me":"get_weather","description":"Weather of a city","input_schema":{"type":"object","properties")json"
    R"json(:{"city":{"type":"string"}},"required":["city"]},"cache_control":{"type":"ephemeral"}}]})json";

// Recorded from openai-node 6.49.0.
inline constexpr std::string_view node_turn_1 =
    R"json({"messages":[{"role":"system","content":"You are a careful assistant. Answer in one sentence, na)json"
    R"json(me your sources and say \"I do not know\" where you do not."},{"role":"user","content":"What doe)json"
    R"json(s a bridge do?\nIn one sentence, s'il vous plaît."}],"model":"m","temperature":0})json";

inline constexpr std::string_view node_turn_2 =
    R"json({"messages":[{"role":"system","content":"You are a careful assistant. Answer in one sentence, na)json"
    R"json(me your sources and say \"I do not know\" where you do not."},{"role":"user","content":"What doe)json"
    R"json(s a bridge do?\nIn one sentence, s'il vous plaît."},{"role":"assistant","content":"A bridge carr)json"
    R"json(ies a road over water.","refusal":null},{"role":"user","content":"And a tunnel? 🚇"}],"model":"m")json"
    R"json(,"temperature":0,"stream":false})json";

}  // namespace penstock::tokenizer::sdk
