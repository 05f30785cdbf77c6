// What the lanes of a warp, or simdgroup, do together: they read each other's registers.
#pragma once
#include "fibers.h"

namespace shim {

inline unsigned lane() { return simt::current % 32; }

inline void nothing(int *const *, unsigned) {}

inline void meet_warp(unsigned mask = ~0u) {
    int part = 0;
    simt::meet<int>(32, mask, part, nothing);
}

template <class T>
struct Shuffle {
    T value, result;
    unsigned source;
};

// A lane that is not of the mask has nothing to give: who reads it gets bits that stand out.
template <class T>
void shuffle(Shuffle<T> *const *lanes, unsigned) {
    for (unsigned i = 0; i < 32; i++) {
        if (!lanes[i]) continue;
        const Shuffle<T> *from = lanes[lanes[i]->source];
        if (from) lanes[i]->result = from->value;
        else memset(&lanes[i]->result, 0xcb, sizeof(T));
    }
}

template <class T>
T shuffled(unsigned mask, T value, unsigned source) {
    Shuffle<T> part = {value, value, source};
    simt::meet<Shuffle<T>>(32, mask, part, shuffle<T>);
    return part.result;
}

struct Vote {
    int predicate;
    unsigned result;
};

inline void vote(Vote *const *lanes, unsigned) {
    unsigned bits = 0;
    for (unsigned i = 0; i < 32; i++)
        if (lanes[i] && lanes[i]->predicate) bits |= 1u << i;
    for (unsigned i = 0; i < 32; i++)
        if (lanes[i]) lanes[i]->result = bits;
}

}  // namespace shim
