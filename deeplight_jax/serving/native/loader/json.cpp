#include "json.hpp"

#include <algorithm>
#include <cstring>

#include "refused.hpp"

namespace deeplight::json {
namespace {

constexpr int kDepth = 32;

// Bytes of the UTF-8 sequence at the start of a text, 0 if it is none: no overlong form, no surrogate.
size_t sequence(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](size_t i, unsigned least = 0x80, unsigned most = 0xBF) {
    return byte(i) >= least && byte(i) <= most;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return follows(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF)
    return follows(1, first == 0xE0 ? 0xA0 : 0x80, first == 0xED ? 0x9F : 0xBF) && follows(2) ? 3 : 0;
  if (first >= 0xF0 && first <= 0xF4)
    return follows(1, first == 0xF0 ? 0x90 : 0x80, first == 0xF4 ? 0x8F : 0xBF) && follows(2) && follows(3) ? 4
                                                                                                           : 0;
  return 0;
}

void append(std::string &out, uint32_t code) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6), put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18), put(0x80 | (code >> 12 & 0x3F)), put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Value whole() {
    Value out = value(0);
    space();
    if (at_ < text_.size()) fail("more behind its end");
    return out;
  }

 private:
  std::string_view text_;
  size_t at_ = 0;

  [[noreturn]] void fail(const char *what) const {
    damaged("no JSON at byte " + std::to_string(at_) + ": " + what);
  }
  int peek() const { return at_ < text_.size() ? static_cast<unsigned char>(text_[at_]) : -1; }
  bool take(char wanted) { return peek() == wanted ? (at_++, true) : false; }
  void space() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') at_++;
  }

  Value value(int depth) {
    if (depth > kDepth) fail("nested too deeply");
    space();
    Value out;
    switch (peek()) {
      case '{': object(out, depth); break;
      case '[': array(out, depth); break;
      case '"': out.kind = Value::kString, out.text = string(); break;
      case 't': word("true"), out.kind = Value::kBool, out.integer = 1; break;
      case 'f': word("false"), out.kind = Value::kBool; break;
      case 'n': word("null"); break;
      default:
        if (peek() != '-' && (peek() < '0' || peek() > '9')) fail("a value is wanted");
        number(out);
    }
    return out;
  }

  void word(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) fail("a value is wanted");
    at_ += wanted.size();
  }

  void object(Value &out, int depth) {
    out.kind = Value::kObject, at_++, space();
    if (take('}')) return;
    do {
      space();
      if (peek() != '"') fail("a key is wanted");
      std::string key = string();
      space();
      if (!take(':')) fail("a colon is wanted");
      out.members.push_back({std::move(key), value(depth + 1)});
      space();
    } while (take(','));
    if (!take('}')) fail("a comma or } is wanted");
    const auto by_key = [](const Member &a, const Member &b) { return a.key < b.key; };
    const auto same = [](const Member &a, const Member &b) { return a.key == b.key; };
    std::sort(out.members.begin(), out.members.end(), by_key);
    if (std::adjacent_find(out.members.begin(), out.members.end(), same) != out.members.end())
      fail("an object with a key twice ends here");
  }

  void array(Value &out, int depth) {
    out.kind = Value::kArray, at_++, space();
    if (take(']')) return;
    do {
      out.items.push_back(value(depth + 1));
      space();
    } while (take(','));
    if (!take(']')) fail("a comma or ] is wanted");
  }

  std::string string() {
    std::string out;
    at_++;
    while (!take('"')) {
      if (peek() < 0x20) fail(peek() < 0 ? "a string without an end" : "a control character in a string");
      if (take('\\')) {
        escape(out);
        continue;
      }
      const size_t bytes = sequence(text_.substr(at_));
      if (!bytes) fail("no UTF-8");
      out.append(text_, at_, bytes);
      at_ += bytes;
    }
    return out;
  }

  void escape(std::string &out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (!take('u')) {
      const char *found = peek() > 0 ? std::strchr(from, peek()) : nullptr;
      if (!found) fail("no such escape");
      out.push_back(to[found - from]), at_++;
      return;
    }
    uint32_t code = hex4();
    if (code >= 0xD800 && code < 0xDC00) {
      const bool pair = take('\\') && take('u');
      const uint32_t low = pair ? hex4() : 0;
      if (low < 0xDC00 || low > 0xDFFF) fail("half a surrogate pair");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code >= 0xDC00 && code < 0xE000) {
      fail("half a surrogate pair");
    }
    append(out, code);
  }

  uint32_t hex4() {
    uint32_t code = 0;
    for (int i = 0; i < 4; i++, at_++) {
      const int c = peek(), lower = c | 0x20;
      if (c >= '0' && c <= '9') code = code << 4 | static_cast<uint32_t>(c - '0');
      else if (c > 0 && lower >= 'a' && lower <= 'f') code = code << 4 | static_cast<uint32_t>(lower - 'a' + 10);
      else fail("four hexadecimal digits are wanted");
    }
    return code;
  }

  size_t digits() {
    const size_t first = at_;
    while (peek() >= '0' && peek() <= '9') at_++;
    if (at_ == first) fail("a digit is wanted");
    return first;
  }

  void number(Value &out) {
    out.kind = Value::kInteger;
    const bool negative = take('-');
    const size_t first = digits();
    if (text_[first] == '0' && at_ > first + 1) fail("a number with a leading zero");
    for (size_t i = first; i < at_; i++)
      if (__builtin_mul_overflow(out.integer, int64_t{10}, &out.integer) ||
          __builtin_add_overflow(out.integer, int64_t{text_[i] - '0'}, &out.integer))
        out.kind = Value::kNumber, out.integer = 0;
    if (negative) out.integer = -out.integer;
    if (take('.')) out.kind = Value::kNumber, digits();
    if (take('e') || take('E')) {
      out.kind = Value::kNumber;
      if (!take('+')) take('-');
      digits();
    }
  }
};

}  // namespace

const Value *Value::find(std::string_view key) const {
  const auto below = [](const Member &member, std::string_view wanted) { return member.key < wanted; };
  const auto found = std::lower_bound(members.begin(), members.end(), key, below);
  return found != members.end() && found->key == key ? &found->value : nullptr;
}

Value parse(std::string_view text) { return Parser(text).whole(); }

}  // namespace deeplight::json
