// Four warps multiply 64 rows of the left panel by all of the right one, out of shared memory. While products are under
// way nobody may touch their sums.
template <int COLUMNS, bool LEFT_ALONG_SUM, bool RIGHT_ALONG_SUM> struct float16_by_groups;
template <int COLUMNS, bool LEFT_ALONG_SUM, bool RIGHT_ALONG_SUM> struct bfloat16_by_groups;
template <int COLUMNS, bool LEFT_ALONG_SUM, bool RIGHT_ALONG_SUM> struct float32_by_groups;

template <int ROWS, int COLUMNS> static __device__ __forceinline__ void hold_all(float (&sums)[ROWS][COLUMNS][4]) {
#pragma unroll
    for (int i = 0; i < ROWS; i++) hold(sums[i]);
}
template <class UNIT, int STEPS, int DOWN, int IN_FLIGHT, int ROWS, int COLUMNS, class LEFT, class RIGHT>
static __device__ __forceinline__ void multiply_by_groups(float (&sums)[ROWS][COLUMNS][4], LEFT left, RIGHT right) {
    const int first_row = threadIdx.x / 128 * 64;
    if constexpr (IN_FLIGHT == 0) show_stores();  // else they are shown where copies are waited for
    open_products();
#pragma unroll
    for (int step = 0; step < STEPS; step += 2 * LEFT::PIECE) {
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            UNIT::multiply(sums[i], describe(left, first_row + 16 * DOWN * i, step), describe(right, 0, step));
    }
    commit_products();
    wait_for_products<IN_FLIGHT>();
    if constexpr (IN_FLIGHT == 0) hold_all(sums);
}
template <int ROWS, int COLUMNS> static __device__ __forceinline__ void finish_by_groups(float (&sums)[ROWS][COLUMNS][4]) {
    wait_for_products<0>();
    hold_all(sums);
    __syncthreads();  // of all groups: sums are stored where panels were
}
