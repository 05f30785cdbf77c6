// Lane i gives the address of row i % 8 of block i / 8, and gets elements 2 * (lane % 4) and the next of row lane / 4 of
// each block of 8 x 8 halves, or of its transpose.

template <bool TRANSPOSED> static __device__ __forceinline__ void load_blocks(unsigned (&blocks)[4], const void *row) {
    if constexpr (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(blocks[0]), "=r"(blocks[1]), "=r"(blocks[2]), "=r"(blocks[3])
                     : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(blocks[0]), "=r"(blocks[1]), "=r"(blocks[2]), "=r"(blocks[3])
                     : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
}
