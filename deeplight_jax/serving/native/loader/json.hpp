// JSON by RFC 8259 and no more: no comments, no trailing commas, no key twice, UTF-8 alone, of bounded depth.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deeplight::json {

struct Member;

struct Value {
  enum Kind { kNull, kBool, kInteger, kNumber, kString, kArray, kObject };
  Kind kind = kNull;
  int64_t integer = 0;          // of kInteger; of kBool 0 or 1. A fraction's value (kNumber) is not kept.
  std::string text;             // of kString, UTF-8
  std::vector<Value> items;     // of kArray
  std::vector<Member> members;  // of kObject, by key

  const Value *find(std::string_view key) const;  // a member's value, or NULL
};

struct Member {
  std::string key;
  Value value;
};

// The one value that a text holds. Throws Refused that says what is wrong and at which byte.
Value parse(std::string_view text);

}  // namespace deeplight::json
