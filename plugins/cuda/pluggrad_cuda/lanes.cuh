// N elements in registers, and what is done with all of them. A comparison gives -1 where it holds, else 0.

template <int BYTES> struct integer_of;
template <> struct integer_of<1> { using type = signed char; };
template <> struct integer_of<2> { using type = short; };
template <> struct integer_of<4> { using type = int; };
template <> struct integer_of<8> { using type = long long; };

template <class T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) lanes {
    using element = T;
    T at[N];
};
template <class T, int N> using mask = lanes<typename integer_of<sizeof(T)>::type, N>;

#define LANES_OPERATOR(GIVES, SYMBOL, SIGN)                                                                   \
    template <class T, int N>                                                                                 \
    static __device__ __forceinline__ GIVES<T, N> operator SYMBOL(lanes<T, N> x, lanes<T, N> y) {             \
        GIVES<T, N> z;                                                                                        \
        for (int i = 0; i < N; i++) z.at[i] = SIGN(x.at[i] SYMBOL y.at[i]);                                   \
        return z;                                                                                             \
    }
LANES_OPERATOR(lanes, +, ) LANES_OPERATOR(lanes, -, ) LANES_OPERATOR(lanes, *, ) LANES_OPERATOR(lanes, /, )
LANES_OPERATOR(lanes, %, ) LANES_OPERATOR(lanes, &, ) LANES_OPERATOR(lanes, |, ) LANES_OPERATOR(lanes, ^, )
LANES_OPERATOR(lanes, <<, ) LANES_OPERATOR(lanes, >>, )
LANES_OPERATOR(mask, ==, -) LANES_OPERATOR(mask, !=, -) LANES_OPERATOR(mask, <, -)
LANES_OPERATOR(mask, <=, -) LANES_OPERATOR(mask, >, -) LANES_OPERATOR(mask, >=, -)

template <class T, int N> static __device__ __forceinline__ lanes<T, N> operator-(lanes<T, N> x) {
    for (int i = 0; i < N; i++) x.at[i] = -x.at[i];
    return x;
}
template <class T, int N> static __device__ __forceinline__ lanes<T, N> operator~(lanes<T, N> x) {
    for (int i = 0; i < N; i++) x.at[i] = ~x.at[i];
    return x;
}
template <class T, int N>
static __device__ __forceinline__ lanes<T, N> blend(mask<T, N> chosen, lanes<T, N> x, lanes<T, N> y) {
    for (int i = 0; i < N; i++) x.at[i] = chosen.at[i] ? x.at[i] : y.at[i];
    return x;
}
template <class V, class... E> static __device__ __forceinline__ V join(E... elements) {
    return V{{(typename V::element)elements...}};
}
template <class T, int N> static __device__ __forceinline__ lanes<T, N> splat(T x) {
    lanes<T, N> z;
    for (int i = 0; i < N; i++) z.at[i] = x;
    return z;
}
template <class T, class S, int N> static __device__ __forceinline__ lanes<T, N> convert(lanes<S, N> x) {
    lanes<T, N> z;
    for (int i = 0; i < N; i++) z.at[i] = (T)x.at[i];
    return z;
}
