// SHA-256 (FIPS 180-4), by the processor's own instructions where it has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace deeplight {

class Sha256 {
 public:
  explicit Sha256(bool accelerated = true);  // false: plain C++ on any processor
  void add(const void *data, size_t bytes);
  std::string hex();  // once, at the end

 private:
  void (*compress_)(uint32_t *state, const unsigned char *data, size_t blocks);
  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  unsigned char rest_[64];
  uint64_t bytes_ = 0;
};

}  // namespace deeplight
