// Boxes as an engine brings them, one copy for each span: one thread announces their bytes and has them copied. Steps
// take turns with the stages, and a barrier's phases with the two parities.

template <int SPANS, int SPAN, int BYTES, int STAGES, class... REST>
static __device__ __forceinline__ void copy_box(void *to, const TensorMap &map, unsigned long long (&arrivals)[STAGES],
                                                unsigned step, int first, REST... rest) {
    if (threadIdx.x) return;
    unsigned long long *arrival = arrivals + step % STAGES;
    expect_bytes(arrival, SPANS * BYTES);
#pragma unroll
    for (int i = 0; i < SPANS; i++)
        copy_span((char *)to + BYTES * i, map, arrival, first + SPAN * i, (int)rest...);
}
template <int STAGES>
static __device__ __forceinline__ void wait_for_boxes(unsigned long long (&arrivals)[STAGES], unsigned step) {
    wait_for_arrival(arrivals + step % STAGES, step / STAGES % 2);
}
