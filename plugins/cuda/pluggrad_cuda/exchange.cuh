// The value of the thread of the same warp whose number differs in the bits of `distance`; ITEMS get there together.

template <unsigned ITEMS, class T> static __device__ __forceinline__ T exchange(T x, int distance) {
    return (T)__shfl_xor_sync(ITEMS, x, distance);
}
