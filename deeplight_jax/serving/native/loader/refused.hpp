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

}  // namespace deeplight
