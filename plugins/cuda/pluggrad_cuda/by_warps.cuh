// Each warp multiplies its part of the panels, which it loads to its registers.

template <class UNIT, int STEPS, int DOWN, int ROWS, int COLUMNS, class LEFT, class RIGHT>
static __device__ __forceinline__ void multiply_by_warps(float (&sums)[ROWS][COLUMNS][4], LEFT left, RIGHT right) {
    const int warp = threadIdx.x / 32, first_row = 16 * (warp % DOWN), first_column = 8 * COLUMNS * (warp / DOWN);
#pragma unroll
    for (int step = 0; step < STEPS; step += 2 * LEFT::PIECE) {
        unsigned a[ROWS][4], b[COLUMNS / 2][4];
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            left.template load<true>(a[i], first_row + 16 * DOWN * i, step);
            UNIT::round(a[i]);
        }
#pragma unroll
        for (int j = 0; j < COLUMNS / 2; j++) {
            right.template load<false>(b[j], first_column + 16 * j, step);
            UNIT::round(b[j]);
        }
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
#pragma unroll
            for (int j = 0; j < COLUMNS; j++)
                UNIT::multiply(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
    }
}
