#include "tokenizer/conversation.hpp"

#include <xxhash.h>

#include <array>

namespace penstock::tokenizer {
namespace {

using index = json_doc::index;

enum class part_kind { text, reasoning, image, audio, video, file, tool_use, tool_result, other };

struct part_name {
  std::string_view type;
  part_kind kind;
};

// `type` of content parts: OpenAI chat, vLLM's additions to it, OpenAI responses, Anthropic messages.
constexpr part_name part_names[] = {
    {"text", part_kind::text},
    {"input_text", part_kind::text},
    {"output_text", part_kind::text},
    {"refusal", part_kind::text},
    {"reasoning_text", part_kind::reasoning},
    {"summary_text", part_kind::reasoning},
    {"thinking", part_kind::reasoning},
    {"image_url", part_kind::image},
    {"input_image", part_kind::image},
    {"image", part_kind::image},
    {"input_audio", part_kind::audio},
    {"audio_url", part_kind::audio},
    {"video_url", part_kind::video},
    {"video", part_kind::video},
    {"file", part_kind::file},
    {"input_file", part_kind::file},
    {"document", part_kind::file},
    {"tool_use", part_kind::tool_use},
    {"tool_result", part_kind::tool_result},
};

part_kind kind_of(std::string_view type) {
  for (const part_name& p : part_names) {
    if (p.type == type) return p.kind;
  }
  return part_kind::other;
}

// Claude Code puts a line into its system prompt that changes with each request; vLLM (pull request 36829)
// leaves it out of the prompt so that its prefix cache works, and a chain must do the same.
bytes_view without_billing_line(bytes_view raw) {
  if (!raw.starts_with("x-anthropic-billing-header")) return raw;
  const std::size_t line_end = raw.find("\\n");
  return line_end == bytes_view::npos ? bytes_view{} : raw.substr(line_end + 2);
}

// Results of tools hold parts, and these nothing that holds parts again. Each level walks its tokens anew,
// so what nests deeper is taken as it stands.
constexpr int max_nesting = 3;

// What tells one picture from another: its URL without query and fragment, since signatures and expiry
// times change while the picture stays; of inline data a digest. `plain_data` is base64 without a URL; what
// is longer than any URL is that as well.
void write_identity(bytes_view raw, bool plain_data, std::string& out) {
  const bool data_url = raw.starts_with("data:");
  constexpr std::size_t longest_url = 8192;
  if (!plain_data && !data_url && raw.size() <= longest_url) {
    out.assign("u").append(raw.substr(0, raw.find_first_of("?#")));
    return;
  }
  if (data_url) {
    const std::size_t comma = raw.find(',');
    raw.remove_prefix(comma == bytes_view::npos ? 0 : comma + 1);
  }
  XXH128_canonical_t digest;
  XXH128_canonicalFromHash(&digest, XXH3_128bits(raw.data(), raw.size()));
  out.assign("d").append(reinterpret_cast<const char*>(digest.digest), sizeof digest.digest);
}

}  // namespace

void conversation::framed(frame f, index value) {
  if (!present(value)) return;
  out_.mark(f);
  if (doc_.is_string(value)) {
    out_.text(doc_.raw(value));
  } else {
    out_.minified(value);
  }
}

void conversation::tools(index array) {
  if (!present(array)) return;
  if (!doc_.is_array(array)) return framed(frame::tool, array);
  doc_.each_element(array, [this](index tool) {
    out_.mark(frame::tool);
    out_.minified_without(tool, {"cache_control"});
  });
}

void conversation::documents(index array) {
  if (!present(array)) return;
  if (!doc_.is_array(array)) return framed(frame::document, array);
  doc_.each_element(array, [this](index document) { framed(frame::document, document); });
}

void conversation::system(index value) {
  if (!present(value)) return;
  out_.mark(frame::message);
  out_.text("system");
  content(value, true);
}

void conversation::messages(index array) {
  doc_.each_element(array, [this](index value) { message(value); });
}

void conversation::input(index value) {
  if (doc_.is_array(value)) {
    doc_.each_element(value, [this](index i) { item(i); });
    return;
  }
  out_.mark(frame::message);
  out_.text("user");
  content(value);
}

void conversation::message(index value) {
  if (!doc_.is_object(value)) return framed(frame::message, value);
  constexpr std::array<std::string_view, 8> names = {
      "role",    "name",       "tool_call_id", "reasoning", "reasoning_content",
      "content", "tool_calls", "function_call"};
  const auto [role, name, call_id, reasoning, reasoning_content, body, calls, function] =
      doc_.pick(value, names);
  out_.mark(frame::message);
  if (is_string(role)) out_.text(doc_.raw(role));
  framed(frame::name, name);
  framed(frame::call_id, call_id);
  framed(frame::reasoning, present(reasoning) ? reasoning : reasoning_content);
  const bool system = is_string(role) && doc_.raw(role) == "system";
  if (present(body)) content(body, system);
  if (present(calls)) tool_calls(calls);
  if (present(function)) framed(frame::call, function);
}

// Items of the responses API; one without a type is a message.
void conversation::item(index value) {
  if (!doc_.is_object(value)) return framed(frame::message, value);
  constexpr std::array<std::string_view, 9> names = {
      "type", "role", "content", "call_id", "name", "arguments", "output", "summary", "encrypted_content"};
  const auto [type, role, body, call_id, name, arguments, output, summary, encrypted] =
      doc_.pick(value, names);
  const std::string_view kind = is_string(type) ? doc_.plain(type, scratch_) : "message";
  if (kind == "message") {
    message(value);
  } else if (kind == "function_call") {
    call(call_id, name, arguments);
  } else if (kind == "function_call_output") {
    out_.mark(frame::result);
    framed(frame::call_id, call_id);
    if (present(output)) content(output);
  } else if (kind == "reasoning") {
    // The text where the engine gave it, else its summary, else the bytes only the engine can read.
    const bool has_text = present(body) && doc_.is_array(body) && doc_.kind(body + 1) != ']';
    const bool has_summary = present(summary) && doc_.is_array(summary) && doc_.kind(summary + 1) != ']';
    out_.mark(frame::reasoning);
    if (has_text || has_summary) {
      content(has_text ? body : summary);
    } else {
      framed(frame::part, encrypted);
    }
  } else {
    out_.mark(frame::message);
    out_.minified_without(value, {"id", "status", "cache_control"});
  }
}

void conversation::content(index value, bool system) {
  if (doc_.is_string(value)) {
    const bytes_view said = system ? without_billing_line(doc_.raw(value)) : doc_.raw(value);
    if (said.empty()) return;
    out_.mark(frame::part);
    out_.text(said);
  } else if (doc_.is_array(value) && nesting_ < max_nesting) {
    ++nesting_;
    doc_.each_element(value, [this, system](index p) { part(p, system); });
    --nesting_;
  } else {
    framed(frame::part, value);
  }
}

void conversation::part(index value, bool system) {
  if (doc_.is_string(value)) return content(value, system);
  if (!doc_.is_object(value)) return framed(frame::part, value);
  constexpr std::array<std::string_view, 19> names = {
      "type",  "text",        "uuid",     "image_url", "input_audio", "audio_url", "video_url",
      "file",  "source",      "thinking", "refusal",   "content",     "id",        "name",
      "input", "tool_use_id", "file_id",  "file_data", "file_url"};
  const auto [type, text, uuid, image_url, input_audio, audio_url, video_url, file, source, thinking, refusal,
              body, id, name, input, tool_use_id, file_id, file_data, file_url] = doc_.pick(value, names);
  part_kind kind = is_string(type) ? kind_of(doc_.plain(type, scratch_)) : part_kind::other;
  if (!present(type)) {
    // vLLM reads these shapes without a type.
    if (present(text)) kind = part_kind::text;
    if (present(image_url)) kind = part_kind::image;
    if (present(audio_url) || present(input_audio)) kind = part_kind::audio;
    if (present(video_url)) kind = part_kind::video;
  }
  const auto first = [this](std::initializer_list<index> values) {
    for (const index v : values) {
      if (present(v)) return v;
    }
    return json_doc::root;
  };
  switch (kind) {
    case part_kind::text: {
      const index said = first({text, refusal});
      if (said != json_doc::root) content(said, system);
      return;
    }
    case part_kind::reasoning: return framed(frame::reasoning, first({thinking, text}));
    case part_kind::image: return media_part(media_kind::image, first({image_url, source, file_id}), uuid);
    case part_kind::audio:
      return media_part(media_kind::audio, first({input_audio, audio_url, source}), uuid);
    case part_kind::video: return media_part(media_kind::video, first({video_url, source}), uuid);
    case part_kind::file:
      if (present(source) && text_document(source)) return;
      // A file is pages, and a page is read as a picture.
      return media_part(media_kind::image, first({file, source, file_data, file_url, file_id}), uuid);
    case part_kind::tool_use: return call(id, name, input);
    case part_kind::tool_result:
      out_.mark(frame::result);
      framed(frame::call_id, tool_use_id);
      if (present(body)) content(body);
      return;
    case part_kind::other: out_.mark(frame::part); return out_.minified_without(value, {"cache_control"});
  }
}

// Anthropic's documents may be text: {"type":"text","data":...} or {"type":"content","content":[...]}.
bool conversation::text_document(index source) {
  if (!doc_.is_object(source)) return false;
  constexpr std::array<std::string_view, 3> names = {"type", "data", "content"};
  const auto [type, data, blocks] = doc_.pick(source, names);
  const std::string_view kind = is_string(type) ? doc_.plain(type, scratch_) : "";
  if (kind == "text" && is_string(data)) {
    content(data);
    return true;
  }
  if (kind == "content" && present(blocks)) {
    content(blocks);
    return true;
  }
  return false;
}

// `source` is a URL, or an object with one of them: {url}, {data}, {file_id}, {file_data}, each perhaps
// with a `uuid` of the client's, which then is the identity.
void conversation::media_part(media_kind kind, index source, index uuid) {
  std::string identity;
  index where = source;
  bool plain_data = false;
  if (source != json_doc::root && doc_.is_object(source)) {
    constexpr std::array<std::string_view, 5> names = {"url", "data", "file_data", "file_id", "uuid"};
    const auto [url, data, file_data, file_id, inner_uuid] = doc_.pick(source, names);
    if (!is_string(uuid)) uuid = inner_uuid;
    plain_data = !is_string(url) && (is_string(data) || is_string(file_data));
    where = is_string(url) ? url : is_string(data) ? data : is_string(file_data) ? file_data : file_id;
  }
  if (is_string(uuid) && !doc_.raw(uuid).empty()) {
    identity.assign("i").append(doc_.raw(uuid));
  } else if (is_string(where)) {
    write_identity(doc_.raw(where), plain_data, identity);
  }
  out_.media(kind, identity);
}

void conversation::tool_calls(index array) {
  if (!doc_.is_array(array)) return framed(frame::call, array);
  doc_.each_element(array, [this](index value) {
    if (!doc_.is_object(value)) return framed(frame::call, value);
    constexpr std::array<std::string_view, 2> names = {"id", "function"};
    const auto [id, function] = doc_.pick(value, names);
    if (function == json_doc::root || !doc_.is_object(function)) {
      out_.mark(frame::call);
      return out_.minified_without(value, {"index", "cache_control"});
    }
    constexpr std::array<std::string_view, 2> inner = {"name", "arguments"};
    const auto [name, arguments] = doc_.pick(function, inner);
    call(id, name, arguments);
  });
}

void conversation::call(index id, index name, index arguments) {
  out_.mark(frame::call);
  if (is_string(name)) out_.text(doc_.raw(name));
  framed(frame::call_id, id);
  framed(frame::arguments, arguments);
}

}  // namespace penstock::tokenizer
