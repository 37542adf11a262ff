// driver SECONDS SEED FILE...: mutates the files and runs the fuzz target, where there is no libFuzzer.
//
// Input n of a seed is the same on every machine. Before each run its bytes are written to ./last-input, which is
// what a crash leaves behind; `driver 0 0 last-input` runs a file as it is.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

using Bytes = std::vector<char>;
using Random = std::mt19937_64;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Bytes read(const char *path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) std::fprintf(stderr, "driver: cannot read %s\n", path), std::exit(2);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

static size_t below(Random &draw, size_t bound) { return bound ? draw() % bound : 0; }

// A place in the bytes: half of the time in the header, where a byte means most.
static size_t place(Random &draw, const Bytes &data) {
  return below(draw, draw() % 2 ? data.size() : std::min<size_t>(data.size(), 4096));
}

static void flip(Random &draw, Bytes &data) {
  if (!data.empty()) data[place(draw, data)] ^= static_cast<char>(1 << draw() % 8);
}

static void set_word(Random &draw, Bytes &data) {
  static const int64_t words[] = {0, 1, -1, 2, 15, 16, 127, 255, 65536, INT32_MAX, INT32_MIN, INT64_MAX, 0x7f800000, 0x7fc00000};
  const size_t bytes = draw() % 2 ? 4 : 8;
  if (data.size() < bytes) return;
  const int64_t word = words[draw() % std::size(words)];
  std::memcpy(data.data() + below(draw, data.size() - bytes + 1), &word, bytes);
}

// Another number where the header has one.
static void set_digits(Random &draw, Bytes &data) {
  static const char *const numbers[] = {"0", "1", "-1", "3", "16", "17", "64", "2147483647", "2147483648",
                                        "9223372036854775807", "18446744073709551616", "1e9", "0.5"};
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  size_t first = place(draw, data);
  while (first < data.size() && !digit(data[first])) first++;
  size_t last = first;
  while (last < data.size() && digit(data[last])) last++;
  if (first == last) return;
  std::string number = numbers[draw() % std::size(numbers)];
  if (draw() % 2) number = std::to_string(std::strtoull(std::string(&data[first], last - first).c_str(), nullptr, 10) + draw() % 5 - 2);
  data.erase(data.begin() + first, data.begin() + last);
  data.insert(data.begin() + first, number.begin(), number.end());
}

static void cut(Random &draw, Bytes &data) {
  const size_t first = place(draw, data), bytes = below(draw, draw() % 2 ? 8 : data.size() - first + 1);
  data.erase(data.begin() + first, data.begin() + std::min(data.size(), first + bytes));
}

static void splice(Random &draw, Bytes &data, const Bytes &other) {
  const size_t from = place(draw, other), bytes = below(draw, std::min<size_t>(other.size() - from, 256) + 1);
  const size_t to = place(draw, data);
  if (draw() % 2) data.erase(data.begin() + to, data.begin() + std::min(data.size(), to + bytes));
  data.insert(data.begin() + to, other.begin() + from, other.begin() + from + bytes);
}

// The header's own size, put right again for a header that grew or shrank: its JSON ends where the braces close.
static void mend(Bytes &data) {
  int depth = 0;
  bool text = false;
  for (size_t i = 8; i < data.size(); i++) {
    if (text && data[i] == '\\') i++;
    else if (data[i] == '"') text = !text;
    else if (!text && data[i] == '{') depth++;
    else if (!text && data[i] == '}' && --depth == 0) {
      const uint64_t size = i - 7;
      std::memcpy(data.data(), &size, 8);
      return;
    }
  }
}

static Bytes mutated(Random &draw, const std::vector<Bytes> &seeds) {
  Bytes data = seeds[draw() % seeds.size()];
  for (size_t edits = 1 + draw() % 4; edits; edits--) switch (draw() % 6) {
      case 0: flip(draw, data); break;
      case 1: set_word(draw, data); break;
      case 2: case 3: set_digits(draw, data); break;
      case 4: cut(draw, data); break;
      default: splice(draw, data, seeds[draw() % seeds.size()]);
    }
  if (draw() % 4) mend(data);
  return data;
}

static void run(const Bytes &data, bool keep) {
  if (keep) std::ofstream("last-input", std::ios::binary).write(data.data(), static_cast<std::streamsize>(data.size()));
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t *>(data.data()), data.size());
}

int main(int count, char **arguments) {
  if (count < 4) return std::fprintf(stderr, "usage: driver SECONDS SEED FILE...\n"), 2;
  const uint64_t seed = std::strtoull(arguments[2], nullptr, 10);
  std::vector<Bytes> seeds;
  for (int i = 3; i < count; i++) seeds.push_back(read(arguments[i])), run(seeds.back(), false);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(arguments[1]));
  std::printf("driver: seed %llu, %zu files\n", static_cast<unsigned long long>(seed), seeds.size());
  std::fflush(stdout);
  uint64_t inputs = 0;
  for (; std::chrono::steady_clock::now() < end; inputs++) {
    Random draw(seed * 1000003 + inputs);
    run(mutated(draw, seeds), true);
  }
  std::printf("driver: %llu inputs, no fault\n", static_cast<unsigned long long>(inputs));
  return 0;
}
