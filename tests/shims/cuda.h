// CUDA C++ as plain C++: what generated kernels say, on fibers. Instructions that have no word in C++ are
// functions in the plugin; those of the same names here do the same.
#pragma once
#include <float.h>
#include <math.h>
#include "warps.h"

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict
#define __shared__ static
#define __constant__ static const
#define __align__(bytes) __attribute__((aligned(bytes)))
#define threadIdx simt::thread_index
#define blockIdx simt::block_index
#define blockDim simt::block_extent
#define gridDim simt::grid_extent
#define __syncthreads() simt::barrier(__LINE__)

constexpr int warpSize = 32;

// ------------------------------------------------------------------------------------------ warps

inline void __syncwarp(unsigned mask = ~0u) { shim::meet_warp(mask); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const unsigned lane = shim::lane(), first = lane / width * width;
    return shim::shuffled(mask, value, first + (unsigned)source % width);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    const unsigned lane = shim::lane(), source = lane ^ bits;
    return shim::shuffled(mask, value, source / width > lane / width ? lane : source);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32) {
    const unsigned lane = shim::lane(), source = lane + distance;
    return shim::shuffled(mask, value, source / width != lane / width ? lane : source);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32) {
    const unsigned lane = shim::lane();
    return shim::shuffled(mask, value, lane % width < distance ? lane : lane - distance);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    shim::Vote part = {predicate, 0};
    simt::meet<shim::Vote>(32, mask, part, shim::vote);
    return part.result;
}

// ------------------------------------------------------------------------------------------ numbers

namespace shim {

template <class T, class S>
T bits(S value) {
    static_assert(sizeof(T) == sizeof(S), "the same bits need the same size");
    T result;
    memcpy(&result, &value, sizeof(T));
    return result;
}

inline float half_value(unsigned short x) {
    const int exponent = x >> 10 & 31, fraction = x & 1023;
    const float size = exponent == 0 ? ldexpf(fraction, -24)
                       : exponent == 31 ? (fraction ? NAN : INFINITY)
                                        : ldexpf(1024 + fraction, exponent - 25);
    return x >> 15 ? -size : size;
}

// to nearest, ties to even: the product is exact
inline unsigned short half_bits(double x) {
    const unsigned short sign = signbit(x) ? 0x8000 : 0;
    if (x != x) return 0x7fff;
    if (x == 0) return sign;
    if (fabs(x) >= 65520) return sign | 0x7c00;
    int exponent;
    frexp(x, &exponent);
    exponent = exponent - 1 < -14 ? -14 : exponent - 1;
    return sign | (((exponent + 14) << 10) + (int)rint(ldexp(fabs(x), 10 - exponent)));
}

inline float bfloat_value(unsigned short x) { return bits<float>((unsigned)x << 16); }

inline unsigned short bfloat_bits(float x) {
    const unsigned whole = bits<unsigned>(x);
    return x != x ? 0x7fff : (whole + 0x7fff + (whole >> 16 & 1)) >> 16;
}

}  // namespace shim

inline float __int_as_float(int x) { return shim::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return shim::bits<float>(x); }
inline int __float_as_int(float x) { return shim::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return shim::bits<unsigned>(x); }
inline double __longlong_as_double(long long x) { return shim::bits<double>(x); }
inline long long __double_as_longlong(double x) { return shim::bits<long long>(x); }

// the plugin's own are single instructions
inline float float16_to_float32(unsigned short x) { return shim::half_value(x); }
inline unsigned short float32_to_float16(float x) { return shim::half_bits(x); }
inline unsigned short float64_to_float16(double x) { return shim::half_bits(x); }
inline unsigned short float32_to_bfloat16(float x) { return shim::bfloat_bits(x); }

#include "matrix_units.h"
