// dl_open: a file of `deeplight export` into an engine. The same checks as serving/artifact.py, in its words.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "refused.hpp"
#include "sha256.hpp"
#include "structure.hpp"

namespace deeplight {
namespace {

using json::Value;
constexpr int64_t kFormat = 1;  // of serving/artifact.py
constexpr const char *kVocabulary = "vocab.";
constexpr size_t kChunk = 256 << 10;  // read and hashed while it is in the cache

#ifdef DL_FUZZING  // what lies behind the digests is what a fuzzer is to reach
constexpr bool kDigests = false;
#else
constexpr bool kDigests = true;
#endif

struct File : Source {
  std::FILE *file = nullptr;

  explicit File(const char *path) {
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) throw Refused{DL_FILE, "no such file; `deeplight export` writes one"};
    if (!std::filesystem::is_regular_file(status)) throw Refused{DL_FILE, "it is no file"};
    size = std::filesystem::file_size(path, error);
    if (!error) file = std::fopen(path, "rb");
    if (!file) throw Refused{DL_FILE, std::string("it cannot be read (") + std::strerror(errno) + ")"};
    std::setvbuf(file, nullptr, _IONBF, 0);
  }
  void read(void *out, size_t bytes) override {
    if (std::fread(out, 1, bytes, file) != bytes) throw Refused{DL_FILE, "it cannot be read to its end"};
  }
  File(const File &) = delete;
  ~File() override {
    if (file) std::fclose(file);
  }
};

struct Bytes : Source {
  const char *next;

  Bytes(const void *data, size_t bytes) : next(static_cast<const char *>(data)) { size = bytes; }
  void read(void *out, size_t bytes) override {
    if (bytes) std::memcpy(out, next, bytes);
    next += bytes;
  }
};

const std::string &text_at(const Value &object, const char *key) {
  static const std::string none;
  const Value *found = object.find(key);
  return found && found->kind == Value::kString ? found->text : none;
}

Value read_description(const Value &metadata) {
  if (!metadata.find("deeplight")) damaged("it holds no description of a deeplight model");
  const std::string &text = text_at(metadata, "deeplight");
  Sha256 digest;
  digest.add(text.data(), text.size());
  if (kDigests && digest.hex() != text_at(metadata, "deeplight.sha256"))
    damaged("its description is damaged (its SHA-256 differs)");
  Value out = json::parse(text);
  const Value *format = out.find("format"), *kind = out.find("kind");
  if (!format || format->kind != Value::kInteger) damaged("its description is not whole (no 'format')");
  if (format->integer != kFormat)
    throw Refused{DL_FORMAT, "it is of format " + std::to_string(format->integer) + ", this library reads format " +
                                 std::to_string(kFormat) + "; use the library of the version that wrote it"};
  if (kind && kind->text != "compact")
    throw Refused{DL_FORMAT, "it is of kind " + (kind->text.empty() ? "?" : shown(kind->text, 32)) +
                                 ", a model without a compact structure: only Python scores it"};
  return out;
}

// The digests of a description, which must be of these arrays and no others.
const Value &read_digests(const Value &description, const std::vector<Array> &arrays) {
  const Value *digests = description.find("sha256");
  if (!digests || digests->kind != Value::kObject) damaged("its description is not whole (no 'sha256')");
  const Array *odd = nullptr;
  for (const Array &array : arrays)
    if (!digests->find(array.name)) odd = &array;
  if (odd || digests->members.size() != arrays.size())
    damaged("its arrays are not those of its description" + (odd ? " (" + shown(odd->name) + ")" : ""));
  return *digests;
}

// Reads an array's bytes and compares their digest; with NULL for `out` they are not kept.
void read_verified(Source &source, const Array &array, const std::string &wanted, char *out) {
  Sha256 digest;
  const std::string what = numpy_dtype(array.dtype) + text_of(array.shape);
  digest.add(what.data(), what.size());
  std::vector<char> passing(out ? 0 : std::min<uint64_t>(kChunk, array.end - array.begin));
  for (uint64_t left = array.end - array.begin; left;) {
    const size_t bytes = std::min<uint64_t>(kChunk, left);
    char *to = out ? out : passing.data();
    source.read(to, bytes);
    digest.add(to, bytes);
    if (out) out += bytes;
    left -= bytes;
  }
  if (kDigests && digest.hex() != wanted) damaged("its array " + shown(array.name) + " is damaged (its SHA-256 differs)");
}

// Memory of whole large pages where it takes some: rows read at random then miss fewer address translations. A system
// that has none to give goes on with small ones.
Memory allocate(size_t bytes) {
  constexpr size_t kLarge = 2 << 20;
  const bool large = bytes >= 2 * kLarge;
  const size_t unit = large ? kLarge : 64, size = bytes / unit * unit + unit;
  Memory out(std::aligned_alloc(unit, size));
  if (!out) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (large) madvise(out.get(), size, MADV_HUGEPAGE);
#endif
  return out;
}

Arrays read_arrays(Source &source, const std::vector<Array> &arrays, const Value &digests) {
  Arrays out;
  for (const Array &array : arrays) {
    const std::string &wanted = text_at(digests, array.name.c_str());
    if (array.name.rfind(kVocabulary, 0) == 0) {
      read_verified(source, array, wanted, nullptr);
      continue;
    }
    Memory data = allocate(array.end - array.begin);
    read_verified(source, array, wanted, static_cast<char *>(data.get()));
    out[array.name] = {array, std::move(data)};
  }
  return out;
}

dl_engine *load(Source &source, const char *level, dl_error &error) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
  throw Refused{DL_FORMAT, "an artifact is little-endian and this machine is not"};
#endif
  const Header header = read_header(source);
  const Value description = read_description(header.metadata);
  Arrays arrays = read_arrays(source, header.arrays, read_digests(description, header.arrays));
  const Value *about = description.find("structure");
  if (!about) damaged("its description is not whole (no 'structure')");
  Structure structure;
  read_structure(*about, arrays, structure);
  dl_engine *engine = dl_load(&structure.model, level, &error);
  if (engine) engine->held = {std::move(structure.names), std::move(arrays["table"].data), std::move(arrays["table_index"].data)};
  return engine;
}

// `where`, shortened in front if it is long, and what is wrong there.
void word(dl_error *error, int code, const std::string &where, const std::string &what) {
  if (!error) return;
  constexpr size_t kLongest = 240;
  size_t first = where.size() > kLongest ? where.size() - kLongest : 0;
  while (first < where.size() && (where[first] & 0xC0) == 0x80) first++;  // a whole character of UTF-8
  error->code = code, error->row = -1, error->field = -1;
  std::snprintf(error->text, sizeof error->text, "%s%s: %s", first ? "..." : "", where.c_str() + first, what.c_str());
}

template <class Open>
dl_engine *guarded(const std::string &where, const char *level, dl_error *error, Open source) try {
  dl_error found{};
  found.row = found.field = -1;
  auto from = source();
  dl_engine *engine = load(from, level, found);
  if (error) *error = found;
  if (!engine) word(error, found.code, where, found.text);
  return engine;
} catch (const Refused &refused) {
  word(error, refused.code, where, refused.what + (refused.code == DL_DAMAGED ? "; export the model again" : ""));
  return nullptr;
} catch (const std::exception &) {
  word(error, DL_MEMORY, where, "out of memory");
  return nullptr;
}

}  // namespace
}  // namespace deeplight

using namespace deeplight;

dl_engine *dl_open(const char *path, const char *level, dl_error *error) {
  return guarded(path ? path : "", level, error, [path] { return File(path ? path : ""); });
}

dl_engine *dl_open_memory(const void *data, size_t size, const char *level, dl_error *error) {
  return guarded("artifact in memory", level, error, [=] { return Bytes(data, size); });
}

int32_t dl_numeric(const dl_engine *engine) { return engine->plan.numeric; }

int32_t dl_categorical(const dl_engine *engine) { return engine->plan.categorical; }

int32_t dl_field_count(const dl_engine *engine) { return dl_numeric(engine) + dl_categorical(engine); }

const char *dl_field_name(const dl_engine *engine, int32_t field) {
  const auto &names = engine->held.names;
  return field >= 0 && static_cast<size_t>(field) < names.size() ? names[field].c_str() : nullptr;
}

int32_t dl_field_size(const dl_engine *engine, int32_t field) {
  const Plan &plan = engine->plan;
  if (field < 0 || field >= dl_field_count(engine)) return 0;
  return field < plan.numeric ? 1 : plan.sizes[field - plan.numeric];
}
