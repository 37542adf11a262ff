// threads MODEL BATCHES: four threads score mixed batches with one engine, while another opens it again and again;
// every score is compared with those of a single thread, bit for bit.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "rows.hpp"

static constexpr int kThreads = 4;
static constexpr int64_t kSizes[] = {1, 2, 3, 4, 31, 32, 33, 100, 1000, 4096};

struct Batch {
  RandomRows rows;
  int64_t count;
  std::vector<float> wanted;
};

static bool same(const dl_engine *engine, const Batch &batch) {
  std::vector<float> found(batch.wanted.size());
  dl_error error;
  const auto *ids = batch.rows.ids.data();
  const auto *values = batch.rows.values.data();
  const int threads = batch.count > 2000 ? 3 : 1;  // whose own threads share the engine, too
  return dl_score_threads(engine, ids, values, batch.count, threads, found.data(), &error) == DL_OK &&
         !std::memcmp(found.data(), batch.wanted.data(), found.size() * sizeof(float));
}

static bool names_a_bad_row(const dl_engine *engine, const Batch &batch) {
  if (!dl_categorical(engine)) return true;
  std::vector<int32_t> ids = batch.rows.ids;
  std::vector<float> out(batch.wanted.size());
  ids[0] = -1;
  dl_error error;
  return dl_score(engine, ids.data(), batch.rows.values.data(), batch.count, out.data(), &error) == DL_ID &&
         error.row == 0 && error.field == 0;
}

int main(int count, char **arguments) {
  if (count < 3) return std::fprintf(stderr, "usage: threads MODEL BATCHES\n"), 2;
  const int turns = std::atoi(arguments[2]);
  dl_error error;
  dl_engine *engine = dl_open(arguments[1], nullptr, &error);
  if (!engine) return std::fprintf(stderr, "%s\n", error.text), 1;
  std::vector<Batch> batches;
  for (int64_t rows : kSizes) {
    batches.push_back({RandomRows(engine, rows, static_cast<uint32_t>(rows)), rows, std::vector<float>(rows)});
    Batch &batch = batches.back();
    if (dl_score(engine, batch.rows.ids.data(), batch.rows.values.data(), rows, batch.wanted.data(), &error))
      return std::fprintf(stderr, "%s\n", error.text), 1;
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++)
    threads.emplace_back([&, t] {
      for (int i = 0; i < turns; i++) {
        const Batch &batch = batches[static_cast<size_t>(i * (t + 1) + t) % batches.size()];
        if (!same(engine, batch) || !names_a_bad_row(engine, batch)) wrong++;
      }
    });
  threads.emplace_back([&] {
    for (int i = 0; i < turns / 4 + 1; i++) {
      dl_engine *own = dl_open(arguments[1], nullptr, nullptr);
      if (!own || !same(own, batches[static_cast<size_t>(i) % batches.size()])) wrong++;
      if (own) dl_free(own);
    }
  });
  for (std::thread &thread : threads) thread.join();
  dl_free(engine);
  if (wrong) return std::fprintf(stderr, "%d batches came out otherwise\n", wrong.load()), 1;
  std::printf("%d threads scored %d mixed batches each as one thread does\n", kThreads, turns);
  return 0;
}
