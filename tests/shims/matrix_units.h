// Matrix units, and copies ahead of time, by what the PTX documents say of each instruction: which lane holds which
// element, what a descriptor tells, and what is there when. It cannot show what an instruction needs beside (fences
// between ways to memory), nor what a GPU does where these documents are wrong or were read wrongly.
#pragma once

// ------------------------------------------------------------------------------------------ copies

namespace shim {

struct Copy {
    char *to;
    const char *from;
    unsigned bytes, batch;
    bool read;
};

// A thread's copies under way, and the batch that the next one is of. They come as late as they may.
struct Copies {
    Copy under_way[512];
    unsigned count, batch;

    void arrive(unsigned end) {
        unsigned kept = 0;
        for (unsigned i = 0; i < count; i++) {
            const Copy copy = under_way[i];
            if (copy.batch >= end) under_way[kept++] = copy;
            else if (copy.read) memcpy(copy.to, copy.from, copy.bytes);
            else memset(copy.to, 0, copy.bytes);
        }
        count = kept;
    }
};

static Copies copies[simt::most_threads];

[[noreturn]] inline void refuse(const char *what) {
    snprintf(simt::message, sizeof simt::message, "thread %u of block %u: %s", simt::current, simt::block_index.x, what);
    simt::fail();
}

}  // namespace shim

template <int BYTES>
void copy_ahead(void *to, const void *from, bool read) {
    if (((uintptr_t)to | (read ? (uintptr_t)from : 0)) % BYTES) shim::refuse("a copy that is not aligned");
    memset(to, 0xcb, BYTES);
    shim::Copies &own = shim::copies[simt::current];
    own.under_way[own.count++] = {(char *)to, (const char *)from, BYTES, own.batch, read};
}

inline void commit_copies() { shim::copies[simt::current].batch++; }

template <int NEWER>
void wait_for_copies() {
    shim::Copies &own = shim::copies[simt::current];
    own.arrive(own.batch > NEWER ? own.batch - NEWER : 0);
}

inline char *local_memory() { return simt::dynamic_memory; }

#include "boxes.h"

// ------------------------------------------------------------------------------------------ numbers

namespace shim {

// How a unit reads numbers, `count` of them in a register.
struct Half {
    static constexpr int count = 2;
    static float value(unsigned x, int i) { return half_value(x >> 16 * i); }
    static float element(const char *at) { return half_value(*(const unsigned short *)at); }
    static unsigned rounded(unsigned x) { return x; }
};

struct BFloat {
    static constexpr int count = 2;
    static float value(unsigned x, int i) { return bfloat_value(x >> 16 * i); }
    static float element(const char *at) { return bfloat_value(*(const unsigned short *)at); }
    static unsigned rounded(unsigned x) { return x; }
};

struct Float {  // what is beyond 10 bits of fraction is not read
    static constexpr int count = 1;
    static float value(unsigned x, int) { return bits<float>(x & ~0x1fffu); }
    static float element(const char *at) { return value(*(const unsigned *)at, 0); }
    static unsigned rounded(unsigned x) { return (x & 0x7fffffff) > 0x7f800000 ? 0x7fffffff : (x + 0x1000) & ~0x1fffu; }
};

// ------------------------------------------------------------------------------------------ a warp

struct Rows {
    const unsigned short *row;
    unsigned *blocks;
};

template <bool TRANSPOSED>
void load_rows(Rows *const *lanes, unsigned) {
    for (int lane = 0; lane < 32; lane++)
        for (int block = 0; block < 4; block++) {
            unsigned pair[2];
            for (int i = 0; i < 2; i++) {
                const int row = lane / 4, column = lane % 4 * 2 + i;
                pair[i] = TRANSPOSED ? lanes[8 * block + column]->row[row] : lanes[8 * block + row]->row[column];
            }
            lanes[lane]->blocks[block] = pair[0] | pair[1] << 16;
        }
}

struct Fragments {
    float *sums;
    const unsigned *a;
    unsigned b[2];
};

// 16 x 8 sums, out of four registers of the left operand and two of the right one
template <class NUMBER>
void multiply_fragments(Fragments *const *lanes, unsigned) {
    constexpr int count = NUMBER::count;
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            float sum = 0;
            for (int step = 0; step < 8 * count; step++) {
                const int lane = step % (4 * count) / count, far = step / (4 * count);
                sum += NUMBER::value(lanes[row % 8 * 4 + lane]->a[row / 8 + 2 * far], step % count)
                       * NUMBER::value(lanes[column * 4 + lane]->b[far], step % count);
            }
            lanes[row % 8 * 4 + column / 2]->sums[row / 8 * 2 + column % 2] += sum;
        }
}

template <class NUMBER>
struct ByWarps {
    static void round(unsigned (&x)[4]) {
        for (unsigned &part : x) part = NUMBER::rounded(part);
    }
    static void multiply(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        Fragments part = {sums, a, {b0, b1}};
        simt::meet<Fragments>(32, ~0u, part, multiply_fragments<NUMBER>);
    }
};

}  // namespace shim

inline unsigned round_to_tf32(unsigned x) { return shim::Float::rounded(x); }

template <bool TRANSPOSED>
void load_blocks(unsigned (&blocks)[4], const void *row) {
    if ((uintptr_t)row % 16) shim::refuse("a row of a block that is not aligned");
    shim::Rows part = {(const unsigned short *)row, blocks};
    simt::meet<shim::Rows>(32, ~0u, part, shim::load_rows<TRANSPOSED>);
}

using float16_by_warps = shim::ByWarps<shim::Half>;
using bfloat16_by_warps = shim::ByWarps<shim::BFloat>;
using float32_by_warps = shim::ByWarps<shim::Float>;

// ------------------------------------------------------------------------------------------ four warps

namespace shim {

static const char *nearby;  // an address in shared memory: of others a descriptor has the last bits alone

// What a descriptor says. Without a swizzle: blocks of eight rows of 16 bytes, and how far they lie apart along the sum
// and along outputs. With that of 128 bytes: blocks of eight rows of as many, how far spans lie apart, and blocks.
struct Operand {
    const char *start;
    long first, second;
    bool in_spans;

    explicit Operand(unsigned long long x) : first(field(x, 16)), second(field(x, 32)), in_spans(x >> 62 == 1) {
        // memory that the launch brings is within one window of addresses, arrays are not far from each other
        constexpr uintptr_t window = 1 << 18;
        const uintptr_t known = (uintptr_t)nearby, brought = (uintptr_t)simt::dynamic_memory;
        const uintptr_t origin = known - brought < window ? brought : known - window / 2;
        start = (const char *)(origin + ((field(x, 0) - origin) & (window - 1)));
        if (x >> 46 & 0xffff || (x >> 62 && !in_spans)) refuse("a descriptor with a base offset or another swizzle");
    }

    static long field(unsigned long long x, int shift) { return (x >> shift & 0x3fff) << 4; }

    template <class NUMBER>
    float element(int x, int step, bool rows_along_sum) const {
        constexpr int size = 4 / NUMBER::count, piece = 16 / size;
        const int row = rows_along_sum ? x : step, column = rows_along_sum ? step : x;
        if (in_spans)
            return NUMBER::element(exchanged((char *)start + row / 8 * second + row % 8 * span_bytes
                                             + column * size / span_bytes * first + column * size % span_bytes));
        return NUMBER::element(start + (rows_along_sum ? row / 8 * second + column / piece * first
                                                       : row / 8 * first + column / piece * second)
                               + row % 8 * 16 + column % piece * size);
    }
};

struct Rectangle {
    float (*sums)[4];
    unsigned long long left, right;
};

// 64 rows by COLUMNS
template <class NUMBER, int COLUMNS, bool LEFT_ALONG_SUM, bool RIGHT_ALONG_SUM>
void multiply_rows(Rectangle *const *threads, unsigned) {
    constexpr int steps = 8 * NUMBER::count;
    const Operand left(threads[0]->left), right(threads[0]->right);
    for (int i = 1; i < 128; i++)
        if (threads[i]->left != threads[0]->left || threads[i]->right != threads[0]->right)
            refuse("warps of a group multiply different operands");
    static float b[COLUMNS][steps];
    for (int column = 0; column < COLUMNS; column++)
        for (int step = 0; step < steps; step++) b[column][step] = right.element<NUMBER>(column, step, RIGHT_ALONG_SUM);
    for (int row = 0; row < 64; row++) {
        float a[steps];
        for (int step = 0; step < steps; step++) a[step] = left.element<NUMBER>(row, step, LEFT_ALONG_SUM);
        for (int column = 0; column < COLUMNS; column++) {
            float sum = 0;
            for (int step = 0; step < steps; step++) sum += a[step] * b[column][step];
            const int thread = row / 16 * 32 + row % 8 * 4 + column % 8 / 2;
            threads[thread]->sums[column / 8][row % 16 / 8 * 2 + column % 2] += sum;
        }
    }
}

// A thread's products under way, and the batch that the next one is of. They read and add as late as they may.
struct Products {
    struct {
        Rectangle part;
        void (*multiply)(Rectangle *const *, unsigned);
        unsigned batch;
    } under_way[64];
    unsigned count, batch;
};

static Products products[simt::most_threads];

template <int NEWER>
void finish_products(Products *const *threads, unsigned) {
    const Products &first = *threads[0];
    unsigned done = 0;
    for (; done < first.count && first.under_way[done].batch + NEWER < first.batch; done++) {
        Rectangle *parts[128];
        for (int i = 0; i < 128; i++) {
            if (threads[i]->count != first.count || threads[i]->under_way[done].multiply != first.under_way[done].multiply)
                refuse("warps of a group multiply different things");
            parts[i] = &threads[i]->under_way[done].part;
        }
        first.under_way[done].multiply(parts, ~0u);
    }
    for (int i = 0; i < 128; i++) {
        Products &own = *threads[i];
        own.count -= done;
        memmove(own.under_way, own.under_way + done, own.count * sizeof *own.under_way);
    }
}

template <class NUMBER, int COLUMNS, bool LEFT_ALONG_SUM, bool RIGHT_ALONG_SUM>
struct ByGroups {
    static void multiply(float (&sums)[COLUMNS / 8][4], unsigned long long left, unsigned long long right) {
        Products &own = products[simt::current];
        if (own.count == 64) refuse("more products under way than this shim has room for");
        own.under_way[own.count++] = {
            {sums, left, right}, multiply_rows<NUMBER, COLUMNS, LEFT_ALONG_SUM, RIGHT_ALONG_SUM>, own.batch};
    }
};

}  // namespace shim

inline size_t __cvta_generic_to_shared(const void *at) {
    shim::nearby = (const char *)at;
    return (size_t)at;
}

inline void show_stores() {}
inline void open_products() {}
inline void commit_products() { shim::products[simt::current].batch++; }
template <int NEWER>
void wait_for_products() {
    simt::meet<shim::Products>(128, ~0u, shim::products[simt::current], shim::finish_products<NEWER>);
}
template <int COLUMNS>
void hold(float (&)[COLUMNS][4]) {}

template <int COLUMNS, bool LEFT, bool RIGHT>
struct float16_by_groups : shim::ByGroups<shim::Half, COLUMNS, LEFT, RIGHT> {};
template <int COLUMNS, bool LEFT, bool RIGHT>
struct bfloat16_by_groups : shim::ByGroups<shim::BFloat, COLUMNS, LEFT, RIGHT> {};
template <int COLUMNS, bool LEFT, bool RIGHT>
struct float32_by_groups : shim::ByGroups<shim::Float, COLUMNS, LEFT, RIGHT> {};
