// What wgmma reads: an address, and how far blocks of eight pieces lie apart along the sum, and along the outputs.

template <int BYTES, bool ALONG_SUM, int LEADING, int STRIDE>
static __device__ __forceinline__ unsigned long long describe(Panel<BYTES, ALONG_SUM, LEADING, STRIDE> panel, int x, int step) {
    constexpr unsigned long long along = BYTES * LEADING / 16, across = BYTES * STRIDE * 8 / 16;
    return ((unsigned)__cvta_generic_to_shared(panel.piece(x, step)) & 0x3ffff) >> 4 | (ALONG_SUM ? along : across) << 16
        | (ALONG_SUM ? across : along) << 32;
}
