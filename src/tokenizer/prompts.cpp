#include "tokenizer/prompts.hpp"

#include <array>
#include <utility>

#include "tokenizer/conversation.hpp"
#include "tokenizer/prompt_writer.hpp"

namespace penstock::tokenizer {
namespace {

using index = json_doc::index;

// Marks of what joins a seed.
enum class seed_mark : std::uint8_t {
  salt = 1,
  chat_template,
  effort,
  no_tools,
  token_ids,
  continued,
  tenant
};

class prompt_maker {
 public:
  prompt_maker(const json_doc& doc, const body_members& members, const token_estimator& estimator,
               block_hasher& hasher, request_facts& facts, bytes_view tenant)
      : doc_(doc),
        members_(members),
        facts_(facts),
        tenant_(tenant),
        out_(doc, hasher, facts, estimator.of(facts.model)),
        talk_(doc, out_) {}

  void make() {
    switch (facts_.api) {
      case api_kind::chat:
      case api_kind::messages:
      case api_kind::responses: chat(); break;
      case api_kind::completions: completions(); break;
      case api_kind::rerank: pairs(field::query, field::documents); break;
      case api_kind::score: score(); break;
      default: count_known(); break;
    }
    out_.finish(doc_.escape_overhead());
  }

 private:
  bool given(field f) const { return members_[f] != json_doc::root && !doc_.is_null(members_[f]); }

  // What a member says joins the seed, whatever its type.
  std::uint64_t joined(std::uint64_t seed, seed_mark mark, index value) const {
    if (value == json_doc::root || doc_.is_null(value)) return seed;
    const value_range r = doc_.range(value);
    return mix_seed(seed, static_cast<std::uint8_t>(mark), {doc_.token(value).data(), r.end - r.begin});
  }

  index inside(field f, std::string_view name) const {
    if (!given(f) || !doc_.is_object(members_[f])) return json_doc::root;
    return doc_.pick(members_[f], std::array<std::string_view, 1>{name})[0];
  }

  bool tools_forbidden() const {
    if (!given(field::tool_choice)) return false;
    index choice = members_[field::tool_choice];
    if (doc_.is_object(choice)) choice = inside(field::tool_choice, "type");  // Anthropic's shape
    return choice != json_doc::root && doc_.is_string(choice) && doc_.raw(choice) == "none";
  }

  std::uint64_t seed() const {
    std::uint64_t s =
        tenant_.empty() ? 0 : mix_seed(0, static_cast<std::uint8_t>(seed_mark::tenant), tenant_);
    s = joined(s, seed_mark::salt, members_[field::cache_salt]);
    s = joined(s, seed_mark::chat_template, members_[field::chat_template]);
    s = joined(s, seed_mark::effort, members_[field::reasoning_effort]);
    s = joined(s, seed_mark::effort, inside(field::reasoning, "effort"));      // responses
    s = joined(s, seed_mark::effort, inside(field::output_config, "effort"));  // messages
    if (tools_forbidden()) s = mix_seed(s, static_cast<std::uint8_t>(seed_mark::no_tools), {});
    if (!facts_.previous_response_id.empty()) {
      // Blocks from the middle of a conversation must not pass for the beginning of another.
      s = mix_seed(s, static_cast<std::uint8_t>(seed_mark::continued), facts_.previous_response_id);
    }
    return s;
  }

  void chat() {
    out_.begin_prompt(seed());
    if (facts_.api == api_kind::chat) talk_.documents(members_[field::documents]);
    talk_.tools(members_[field::tools]);
    if (facts_.api == api_kind::messages) talk_.system(members_[field::system]);
    if (facts_.api == api_kind::responses) {
      talk_.system(members_[field::instructions]);
      talk_.input(members_[field::input]);
    } else {
      talk_.messages(members_[field::messages]);
    }
    template_arguments();
    out_.end_prompt();
  }

  void template_arguments() {
    constexpr std::pair<field, char> arguments[] = {
        {field::chat_template_kwargs, 'k'},   {field::add_generation_prompt, 'g'},
        {field::continue_final_message, 'c'}, {field::add_special_tokens, 's'},
        {field::mm_processor_kwargs, 'm'},    {field::thinking, 't'}};
    for (const auto& [f, letter] : arguments) {
      if (!given(f)) continue;
      const char head[2] = {static_cast<char>(frame::argument), letter};
      const value_range r = doc_.range(members_[f]);
      out_.identity({head, 2});
      out_.identity({doc_.token(members_[f]).data(), r.end - r.begin});
    }
  }

  void completions() {
    if (!given(field::prompt)) return;
    const index prompt = members_[field::prompt];
    if (!doc_.is_array(prompt)) return one_prompt(prompt);
    std::size_t strings = 0, numbers = 0, arrays = 0, all = 0;
    doc_.each_element(prompt, [&](index e) {
      ++all;
      strings += doc_.is_string(e);
      numbers += is_number(e);
      arrays += doc_.is_array(e);
    });
    if (all == 0) return;
    if (numbers == all) {
      ids_prompt(prompt);
    } else if (strings == all || arrays == all) {
      doc_.each_element(prompt, [this](index e) { doc_.is_string(e) ? one_prompt(e) : ids_prompt(e); });
    } else {
      one_prompt(prompt);  // llama.cpp joins text and token ids to one prompt
    }
  }

  bool is_number(index i) const {
    const char c = doc_.kind(i);
    return c == '-' || (c >= '0' && c <= '9');
  }

  void one_prompt(index value) {
    out_.begin_prompt(seed());
    if (doc_.is_string(value)) {
      out_.text(doc_.raw(value));
    } else {
      out_.minified(value);
    }
    out_.end_prompt();
  }

  void ids_prompt(index array) {
    out_.begin_prompt(mix_seed(seed(), static_cast<std::uint8_t>(seed_mark::token_ids), {}));
    doc_.each_element(array, [this](index e) {
      if (is_number(e)) {
        out_.token_id(doc_.token(e));
      } else {
        out_.minified(e);
      }
    });
    out_.end_prompt();
  }

  std::size_t elements(field f) const {
    if (!given(f)) return 0;
    std::size_t n = 1;
    if (doc_.is_array(members_[f])) {
      n = 0;
      doc_.each_element(members_[f], [&n](index) { ++n; });
    }
    return n;
  }

  // A cross-encoder reads the one text before each of the others.
  void pairs(field one, field others) {
    const std::uint64_t before = out_.text_bytes();
    if (given(one)) out_.count_all(members_[one]);
    const std::uint64_t once = out_.text_bytes() - before;
    const std::size_t times = elements(others);
    if (times > 1) out_.add_text_bytes(once * (times - 1));
    if (given(others)) out_.count_all(members_[others]);
  }

  void score() {
    constexpr std::pair<field, field> names[] = {{field::text_1, field::text_2},
                                                 {field::data_1, field::data_2},
                                                 {field::queries, field::documents},
                                                 {field::queries, field::items},
                                                 {field::query, field::items}};
    for (const auto& [left, right] : names) {
      if (!given(left) || !given(right)) continue;
      if (elements(left) > 1) {  // pair by pair, or every one with every other: once each is the least
        out_.count_all(members_[left]);
        out_.count_all(members_[right]);
      } else {
        pairs(left, right);
      }
      return;
    }
    count_known();
  }

  // Load alone: whatever of these a body has is read by the engine.
  void count_known() {
    constexpr field known[] = {field::input,  field::prompt, field::query,  field::queries,  field::documents,
                               field::items,  field::texts,  field::text,   field::text_1,   field::text_2,
                               field::data_1, field::data_2, field::tokens, field::token_ids};
    for (const field f : known) {
      if (given(f)) out_.count_all(members_[f]);
    }
    if (given(field::messages) && doc_.is_array(members_[field::messages])) {
      talk_.tools(members_[field::tools]);
      talk_.messages(members_[field::messages]);
    }
  }

  const json_doc& doc_;
  const body_members& members_;
  request_facts& facts_;
  bytes_view tenant_;
  prompt_writer out_;
  conversation talk_;
};

}  // namespace

void write_prompts(const json_doc& doc, const body_members& members, const token_estimator& estimator,
                   block_hasher& hasher, request_facts& facts, bytes_view tenant) {
  prompt_maker(doc, members, estimator, hasher, facts, tenant).make();
}

}  // namespace penstock::tokenizer
