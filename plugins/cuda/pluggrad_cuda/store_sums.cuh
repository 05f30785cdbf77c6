// Sums row by row. A thread holds two neighbors of row lane / 4 of each block of 16 x 8, at 2 * (lane % 4), and two of
// row lane / 4 + 8; along the rows the blocks of DOWN warps take turns.

template <int DOWN, int STRIDE, int ROWS, int COLUMNS>
static __device__ __forceinline__ void store_sums(const float (&sums)[ROWS][COLUMNS][4], float *to) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    to += (16 * (warp % DOWN) + lane / 4) * STRIDE + 8 * COLUMNS * (warp / DOWN) + 2 * (lane % 4);
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
#pragma unroll
            for (int k = 0; k < 4; k++) to[(16 * DOWN * i + k / 2 * 8) * STRIDE + 8 * j + k % 2] = sums[i][j][k];
        }
    }
}
