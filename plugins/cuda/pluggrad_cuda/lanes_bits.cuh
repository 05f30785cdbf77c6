template <class T, class S, int N> static __device__ __forceinline__ lanes<T, N> lanes_as(lanes<S, N> x) {
    lanes<T, N> z;
    for (int i = 0; i < N; i++) z.at[i] = bits_as<T>(x.at[i]);
    return z;
}
