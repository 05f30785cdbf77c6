// What stands around products by groups of warps. Other threads have stored what they read.

static __device__ __forceinline__ void open_products() {
    asm volatile("fence.proxy.async.shared::cta;\n\twgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ __forceinline__ void close_products() {
    asm volatile("wgmma.commit_group.sync.aligned;\n\twgmma.wait_group.sync.aligned 0;" ::: "memory");
}
template <int COLUMNS> static __device__ __forceinline__ void hold(float (&sums)[COLUMNS][4]) {
#pragma unroll
    for (int j = 0; j < COLUMNS; j++)
        asm volatile("" : "+f"(sums[j][0]), "+f"(sums[j][1]), "+f"(sums[j][2]), "+f"(sums[j][3])::"memory");
}
