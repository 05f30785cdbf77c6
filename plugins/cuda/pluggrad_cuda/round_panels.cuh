// Panels that products read straight out of shared memory, rounded there by all threads.

template <int THREADS, int COUNT, int STEPS, class PANEL>
static __device__ __forceinline__ void round_panel(PANEL panel) {
    struct alignas(16) Piece {
        unsigned at[PANEL::PIECE];
    };
#pragma unroll
    for (int i = threadIdx.x; i < COUNT * STEPS / PANEL::PIECE; i += THREADS) {
        Piece &there = *(Piece *)panel.piece(i % COUNT, i / COUNT * PANEL::PIECE);
        Piece piece = there;
#pragma unroll
        for (int j = 0; j < PANEL::PIECE; j++) piece.at[j] = round_to_tf32(piece.at[j]);
        there = piece;
    }
}
template <int THREADS, int ROWS, int COLUMNS, int STEPS, class LEFT, class RIGHT>
static __device__ __forceinline__ void round_panels(LEFT left, RIGHT right) {
    round_panel<THREADS, ROWS, STEPS>(left);
    round_panel<THREADS, COLUMNS, STEPS>(right);
    show_stores();
    __syncthreads();
}
