#include "proxy/config/prescan.hpp"

namespace penstock::conf {
namespace {

enum class where : std::uint8_t { outside, comment, basic, literal, long_basic, long_literal };

constexpr unsigned most_dots = 16;

// Follows just enough of TOML's lexical grammar to know strings and comments from the rest. On a text that
// is no TOML it may go wrong after the first error, which is where the library stops anyway.
class scanner {
 public:
  explicit scanner(std::string_view text) : text_(text) {}

  std::optional<syntax_error> run() {
    if (text_.substr(0, 3) == "\xef\xbb\xbf") next_ = first_ = 3;
    while (next_ < text_.size()) {
      const char c = text_[next_];
      if (c == '\n') {
        end_line();
        continue;
      }
      const auto byte = static_cast<unsigned char>(c);
      if (auto bad = state_ == where::outside ? outside(byte) : inside(byte)) return bad;
    }
    return std::nullopt;
  }

 private:
  void step(std::size_t bytes) {
    for (; bytes > 0 && next_ < text_.size(); --bytes, ++next_)
      if ((static_cast<unsigned char>(text_[next_]) & 0xc0U) != 0x80U) ++at_.column;
  }

  void end_line() {
    ++next_;
    ++at_.line;
    at_.column = 1;
    dots_ = 0;
    if (state_ != where::long_basic && state_ != where::long_literal) state_ = where::outside;
  }

  bool three(char quote) const {
    return next_ + 2 < text_.size() && text_[next_ + 1] == quote && text_[next_ + 2] == quote;
  }

  // Whether a string may begin here. The library looks ahead over what follows a value directly.
  bool may_open() const {
    return next_ == first_ ||
           std::string_view(" \t\r\n=,[{.").find(text_[next_ - 1]) != std::string_view::npos;
  }

  std::optional<syntax_error> outside(unsigned char c) {
    if (c >= 0x80)
      return syntax_error{at_, "a character that is not ASCII outside of strings and comments",
                          "quote keys and values that contain it"};
    if ((c == '"' || c == '\'') && !may_open())
      return syntax_error{at_, "a quote in the middle of a key or value", "quote it as a whole"};
    switch (c) {
      case '#': state_ = where::comment; break;
      case '"':
        state_ = three('"') ? where::long_basic : where::basic;
        step(state_ == where::long_basic ? 2 : 0);
        break;
      case '\'':
        state_ = three('\'') ? where::long_literal : where::literal;
        step(state_ == where::long_literal ? 2 : 0);
        break;
      case '.':
        if (++dots_ > most_dots) return syntax_error{at_, "a key of more than 16 dots", ""};
        break;
      case '=':
      case ',':
      case '[':
      case ']':
      case '{':
      case '}': dots_ = 0; break;
      default: break;
    }
    step(1);
    return std::nullopt;
  }

  std::optional<syntax_error> inside(unsigned char c) {
    const bool is_long = state_ == where::long_basic || state_ == where::long_literal;
    if (is_long && c >= 0x80)
      return syntax_error{at_, "a character that is not ASCII in a multi-line string",
                          "write the string on one line"};
    const char quote = state_ == where::basic || state_ == where::long_basic ? '"' : '\'';
    if (state_ == where::comment) return step(1), std::nullopt;
    if (c == '\\' && quote == '"') {
      step(1);  // what is escaped is stepped over below, unless it ends the line or is not ASCII
      if (next_ < text_.size() && text_[next_] != '\n' && static_cast<unsigned char>(text_[next_]) < 0x80)
        step(1);
      return std::nullopt;
    }
    if (c == static_cast<unsigned char>(quote)) return close(quote, is_long), std::nullopt;
    return step(1), std::nullopt;
  }

  void close(char quote, bool is_long) {
    if (is_long && !three(quote)) return step(1);
    step(is_long ? 3 : 1);
    // A multi-line string may end in one or two quotes of its own.
    for (int extra = 0; is_long && extra < 2 && next_ < text_.size() && text_[next_] == quote; ++extra)
      step(1);
    state_ = where::outside;
  }

  std::string_view text_;
  std::size_t first_ = 0;
  std::size_t next_ = 0;
  position at_{1, 1};
  where state_ = where::outside;
  unsigned dots_ = 0;
};

}  // namespace

std::optional<syntax_error> prescan(std::string_view text) { return scanner(text).run(); }

}  // namespace penstock::conf
