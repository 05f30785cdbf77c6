// The same bits as another type of the same size.

template <class T, class S> static __device__ __forceinline__ T bits_as(S x) {
    static_assert(sizeof(T) == sizeof(S), "the same bits need the same size");
    union { S before; T after; } bits = { x };
    return bits.after;
}
