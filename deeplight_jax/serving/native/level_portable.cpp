// The kernels for vectors of 128 bits: SSE2, NEON or whatever the compiler makes of them.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "deeplight.h"
#include "fetch.hpp"
#include "plan.hpp"

#define DL_BYTES 16
#define DL_UNITS 1

namespace deeplight {
namespace portable {
#include "kernel.hpp"
}  // namespace portable
const Level kPortable = {"portable", portable::block, portable::single, portable::decode, portable::fits};
}  // namespace deeplight
