// Rows on their way to shared memory; zeros take the place of what is not read.

template <int BYTES> static __device__ __forceinline__ void copy_ahead(void *to, const void *from, bool read) {
    const int bytes = read ? BYTES : 0;  // zeros take the place of what is not read
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(bytes) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;"
                     ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(bytes), "n"(BYTES) : "memory");
}
static __device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int NEWER> static __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(NEWER) : "memory");
#if __CUDA_ARCH__ >= 900  // wgmma reads shared memory by another way
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
