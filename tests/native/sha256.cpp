// SHA-256s of the first 0 to 300 bytes of standard input and of all of it, in odd pieces: by the processor's own
// instructions where it has them, and in plain C++.
#include "../../deeplight_jax/serving/native/loader/sha256.hpp"

#include <algorithm>
#include <iostream>
#include <iterator>
#include <vector>

static std::string digest(const std::vector<char> &data, size_t bytes, size_t piece, bool accelerated) {
  deeplight::Sha256 out(accelerated);
  for (size_t at = 0; at < bytes; at += piece) out.add(data.data() + at, std::min(piece, bytes - at));
  return out.hex();
}

int main() {
  const std::vector<char> data(std::istreambuf_iterator<char>(std::cin), {});
  for (size_t bytes = 0; bytes <= 300; bytes++)
    std::cout << digest(data, bytes, 301, true) << ' ' << digest(data, bytes, 7, false) << '\n';
  std::cout << digest(data, data.size(), 1000, true) << ' ' << digest(data, data.size(), 64, false) << '\n';
}
