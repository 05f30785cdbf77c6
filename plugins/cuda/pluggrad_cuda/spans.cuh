// An operand as boxes bring it: spans of 128 bytes along one of its axes, rows of a span one after another. In every
// eighth row pieces of 16 bytes lie in their order; in others each has changed places with that whose number differs in
// the bits of the row's.

template <int BYTES, bool ALONG_SUM, int LEADING> struct Spans {
    static constexpr int PIECE = 16 / BYTES, SPAN = 128 / BYTES;
    const char *start;

    __device__ __forceinline__ const char *row(int x, int step) const {
        const int along = ALONG_SUM ? step : x, across = ALONG_SUM ? x : step;
        return start + along / SPAN * (BYTES * LEADING) + across * 128;
    }
    __device__ __forceinline__ const char *piece(int x, int step) const {
        const int along = ALONG_SUM ? step : x, across = ALONG_SUM ? x : step;
        return row(x, step) + 16 * (along % SPAN / PIECE ^ across % 8);
    }

    // as of a panel in pieces
    template <bool LEFT> __device__ __forceinline__ void load(unsigned (&blocks)[4], int x, int step) const {
        const int lane = threadIdx.x % 32, block = lane / 8;
        x += 8 * (LEFT ? block % 2 : block / 2) + (ALONG_SUM ? lane % 8 : 0);
        step += PIECE * (LEFT ? block / 2 : block % 2) + (ALONG_SUM ? 0 : lane % 8);
        load_blocks<!ALONG_SUM>(blocks, piece(x, step));
    }
};
// What wgmma reads: how far spans lie apart, if several are read at once, and blocks of eight rows. It finds the pieces.
template <int BYTES, bool ALONG_SUM, int LEADING>
static __device__ __forceinline__ unsigned long long describe(Spans<BYTES, ALONG_SUM, LEADING> panel, int x, int step) {
    const char *at = panel.row(x, step) + BYTES * ((ALONG_SUM ? step : x) % panel.SPAN);
    constexpr unsigned long long spans = ALONG_SUM ? 1 : BYTES * LEADING / 16, rows = 8 * 128 / 16, exchanged = 1;
    return ((unsigned)__cvta_generic_to_shared(at) & 0x3ffff) >> 4 | spans << 16 | rows << 32 | exchanged << 62;
}
