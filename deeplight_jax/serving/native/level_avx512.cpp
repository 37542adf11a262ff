// The kernels for vectors of 512 bits.
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
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of its own header
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,fma,prefer-vector-width=512")
#endif
#define DL_BYTES 64
#define DL_UNITS 4

namespace deeplight {
namespace avx512 {
#include "kernel.hpp"
}  // namespace avx512
const Level kAvx512 = {"avx512", avx512::block, avx512::single, avx512::decode, avx512::fits};
}  // namespace deeplight

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
