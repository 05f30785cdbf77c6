// What stands around products by groups of warps, which read shared memory by another way than threads store there.

static __device__ __forceinline__ void show_stores() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
static __device__ __forceinline__ void open_products() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ __forceinline__ void commit_products() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int NEWER> static __device__ __forceinline__ void wait_for_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(NEWER) : "memory");
}
template <int COLUMNS> static __device__ __forceinline__ void hold(float (&sums)[COLUMNS][4]) {
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
        asm volatile("" : "+f"(sums[j][0]), "+f"(sums[j][1]), "+f"(sums[j][2]), "+f"(sums[j][3])::"memory");
}
