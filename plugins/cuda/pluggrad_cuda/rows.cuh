// Neighbors in memory, of which every ALIGNED begin at a multiple of their size: one access for each of those.

template <int N, int ALIGNED, class T> static __device__ __forceinline__ lanes<T, N> load_row(const T *row) {
    lanes<T, N> x;
    for (int i = 0; i < N; i += ALIGNED) {
        const lanes<T, ALIGNED> part = *reinterpret_cast<const lanes<T, ALIGNED> *>(row + i);
        for (int j = 0; j < ALIGNED; j++) x.at[i + j] = part.at[j];
    }
    return x;
}
template <int ALIGNED, class T, int N> static __device__ __forceinline__ void store_row(T *row, lanes<T, N> x) {
    for (int i = 0; i < N; i += ALIGNED) {
        lanes<T, ALIGNED> part;
        for (int j = 0; j < ALIGNED; j++) part.at[j] = x.at[i + j];
        *reinterpret_cast<lanes<T, ALIGNED> *>(row + i) = part;
    }
}
