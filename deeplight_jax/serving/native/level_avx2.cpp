// The kernels for vectors of 256 bits.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "deeplight.h"
#include "fetch.hpp"
#include "plan.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define DL_BYTES 32
#define DL_UNITS 2

namespace deeplight {
namespace avx2 {
#include "kernel.hpp"
}  // namespace avx2
const Level kAvx2 = {"avx2", avx2::block, avx2::single, avx2::decode, avx2::fits};
}  // namespace deeplight

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
