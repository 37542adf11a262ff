// Random rows that an engine can score.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "deeplight.h"

struct RandomRows {
  std::vector<int32_t> ids;
  std::vector<float> values;

  RandomRows(const dl_engine *engine, int64_t rows, uint32_t seed, float scale = 2) {
    std::mt19937 draw(seed);
    const int32_t numeric = dl_numeric(engine), fields = dl_field_count(engine);
    for (int64_t r = 0; r < rows; r++) {
      for (int32_t i = 0; i < numeric; i++)
        values.push_back((static_cast<float>(draw()) / 4294967296.0f - 0.5f) * scale);
      for (int32_t i = numeric; i < fields; i++)
        ids.push_back(static_cast<int32_t>(draw() % static_cast<uint32_t>(dl_field_size(engine, i))));
    }
    values.push_back(0), ids.push_back(0);  // never empty
  }
};
