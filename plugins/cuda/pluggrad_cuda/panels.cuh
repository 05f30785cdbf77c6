// An operand in shared memory: pieces of 16 bytes along one of its axes, x along its own outputs, step along the sum.

template <int BYTES, bool ALONG_SUM, int LEADING, int STRIDE> struct Panel {
    static constexpr int PIECE = 16 / BYTES;
    const char *start;

    __device__ __forceinline__ const char *piece(int x, int step) const {
        const int along = ALONG_SUM ? step : x, across = ALONG_SUM ? x : step;
        return start + BYTES * (along / PIECE * LEADING + across * STRIDE);
    }

    // eight pieces of x and of x + 8, by two of steps; blocks in the order of a left or a right operand
    template <bool LEFT> __device__ __forceinline__ void load(unsigned (&blocks)[4], int x, int step) const {
        const int lane = threadIdx.x % 32, block = lane / 8, row = lane % 8;
        const int far_x = 8 * (LEFT ? block % 2 : block / 2), far_step = PIECE * (LEFT ? block / 2 : block % 2);
        load_blocks<!ALONG_SUM>(blocks, ALONG_SUM ? piece(x + far_x + row, step + far_step)
                                                  : piece(x + far_x, step + far_step + row));
    }
};
