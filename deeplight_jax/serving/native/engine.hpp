// An engine: its plan and what it owns.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "plan.hpp"

namespace deeplight {

struct Free { void operator()(void *memory) const { std::free(memory); } };
using Memory = std::unique_ptr<void, Free>;

// What an engine of dl_open keeps of its file; an engine of dl_load has none of it.
struct Held {
  std::vector<std::string> names;  // of fields, numeric ones first
  Memory table, index;
};

}  // namespace deeplight

struct dl_engine {
  deeplight::Plan plan;
  const deeplight::Level *level;
  size_t scratch;
  deeplight::Held held{};
};
