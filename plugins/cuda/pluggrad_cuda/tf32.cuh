// To the nearest number of 10 bits, of halfway ones the larger: units cut off what they do not read.

static __device__ __forceinline__ unsigned round_to_tf32(unsigned x) {
    unsigned y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(__uint_as_float(x)));
    return y;
}
