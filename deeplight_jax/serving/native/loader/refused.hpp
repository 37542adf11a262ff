// Why an artifact is not loaded.
#pragma once

#include <string>

#include "../deeplight.h"

namespace deeplight {

struct Refused {
  int code;  // DL_FILE, DL_DAMAGED, DL_FORMAT
  std::string what;
};

[[noreturn]] inline void damaged(const std::string &what) { throw Refused{DL_DAMAGED, what}; }

// The start of a name that may be anything, whole characters of UTF-8 of it.
inline std::string shown(const std::string &name, size_t most = 80) {
  if (name.size() <= most) return name;
  while (most && (name[most] & 0xC0) == 0x80) most--;
  return name.substr(0, most) + "...";
}

}  // namespace deeplight
