// Memory of a block beyond what a kernel may declare: as much as its launch asks for.

static __device__ __forceinline__ char *local_memory() {
    extern __shared__ __align__(128) char memory[];
    return memory;
}
