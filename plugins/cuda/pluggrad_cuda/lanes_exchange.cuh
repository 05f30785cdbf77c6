template <unsigned ITEMS, class T, int N>
static __device__ __forceinline__ lanes<T, N> exchange_lanes(lanes<T, N> x, int distance) {
    for (int i = 0; i < N; i++) x.at[i] = exchange<ITEMS>(x.at[i], distance);
    return x;
}
