// The engine that copies boxes to shared memory, as maps of tensors describe them, and barriers there that count what
// arrives: a phase ends when all that was announced has come.

struct alignas(64) TensorMap {
    unsigned long long words[16];
};
static __device__ __forceinline__ unsigned shared_address(const void *at) {
    return (unsigned)__cvta_generic_to_shared(at);
}
// Memory of a block, as much as its launch asks for but for 1024 bytes, from a multiple of these on: the bits of an
// address tell how pieces are exchanged there.
static __device__ __forceinline__ char *aligned_memory() {
    extern __shared__ __align__(16) char spans[];
    return spans + (-shared_address(spans) & 1023);
}
template <int COPIES, int STAGES> static __device__ __forceinline__ void open_arrivals(unsigned long long (&arrivals)[STAGES]) {
    if (threadIdx.x) return;
#pragma unroll
    for (int i = 0; i < STAGES; i++)
        asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(arrivals + i)), "n"(COPIES) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
static __device__ __forceinline__ void expect_bytes(unsigned long long *arrival, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(arrival)), "r"(bytes) : "memory");
}
static __device__ __forceinline__ void wait_for_arrival(unsigned long long *arrival, unsigned parity) {
    unsigned done;
    do {
        asm volatile("{ .reg .pred done; mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2; selp.u32 %0, 1, 0, done; }"
                     : "=r"(done) : "r"(shared_address(arrival)), "r"(parity) : "memory");
    } while (!done);
    __syncwarp();  // products are of whole warps
}
template <class ARRIVAL>
static __device__ __forceinline__ void copy_span(void *to, const TensorMap &map, ARRIVAL *arrival, int a, int b) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
                 ::"r"(shared_address(to)), "l"(&map), "r"(shared_address(arrival)), "r"(a), "r"(b) : "memory");
}
template <class ARRIVAL>
static __device__ __forceinline__ void copy_span(void *to, const TensorMap &map, ARRIVAL *arrival, int a, int b, int c) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
                 ::"r"(shared_address(to)), "l"(&map), "r"(shared_address(arrival)), "r"(a), "r"(b), "r"(c) : "memory");
}
template <class ARRIVAL>
static __device__ __forceinline__ void copy_span(void *to, const TensorMap &map, ARRIVAL *arrival, int a, int b, int c, int d) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2];"
                 ::"r"(shared_address(to)), "l"(&map), "r"(shared_address(arrival)), "r"(a), "r"(b), "r"(c), "r"(d)
                 : "memory");
}
template <class ARRIVAL>
static __device__ __forceinline__ void copy_span(void *to, const TensorMap &map, ARRIVAL *arrival, int a, int b, int c, int d, int e) {
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];"
                 ::"r"(shared_address(to)), "l"(&map), "r"(shared_address(arrival)), "r"(a), "r"(b), "r"(c), "r"(d), "r"(e)
                 : "memory");
}
