// The engine that copies boxes, and the barriers that count what arrives, by what the PTX documents say of them. Copies
// come as late as a wait lets them: until then what is there is poison. It cannot show what needs a fence.
#pragma once

// What a tensor map says, as this shim's driver writes it: see maps.py.
struct alignas(64) TensorMap {
    const char *address;
    unsigned rank, element_bytes;
    unsigned long long strides[4];  // bytes, of all dimensions but the first
    unsigned extents[5], box[5];
    unsigned known;
};
static_assert(sizeof(TensorMap) == 128, "a tensor map has 128 bytes");

namespace shim {

// A barrier: a phase ends when all arrivals and all bytes that were announced have come.
struct Arrival {
    int bytes;
    unsigned char left, count, phase, opened;
};
static_assert(sizeof(Arrival) == 8, "a barrier takes a word of 64 bits");

constexpr unsigned char is_open = 0x5a;
constexpr unsigned span_bytes = 128, most_turns = 1000;

struct BoxCopy {
    char *to;
    const TensorMap *map;
    Arrival *arrival;
    int start[5];
};

static BoxCopy boxes[64];
static unsigned boxes_under_way;

inline Arrival *opened(unsigned long long *at) {
    Arrival *arrival = (Arrival *)at;
    if ((uintptr_t)at % 8 || arrival->opened != is_open) refuse("a barrier that was not made ready");
    return arrival;
}

inline void end_phase(Arrival *arrival) {
    if (arrival->left || arrival->bytes) return;
    arrival->left = arrival->count;
    arrival->phase ^= 1;
}

// An element, or 0 beyond the ends.
inline void bring(const BoxCopy &copy, const int (&at)[5], char *to) {
    const TensorMap &map = *copy.map;
    const char *from = map.address;
    bool inside = true;
    for (unsigned i = 0; i < map.rank; i++) {
        const long place = (long)copy.start[i] + at[i];
        inside = inside && place >= 0 && place < (long)map.extents[i];
        from += place * (long)(i ? map.strides[i - 1] : map.element_bytes);
    }
    if (inside) memcpy(to, from, map.element_bytes);
    else memset(to, 0, map.element_bytes);
}

inline unsigned bytes_of(const TensorMap &map) {
    unsigned bytes = map.element_bytes;
    for (unsigned i = 0; i < map.rank; i++) bytes *= map.box[i];
    return bytes;
}

// Where a byte of eight rows of a span lies: pieces are exchanged by bits of the address.
inline char *exchanged(char *at) { return (char *)((uintptr_t)at ^ ((uintptr_t)at >> 7 & 7) << 4); }

inline void bring_all(const BoxCopy &copy) {
    const TensorMap &map = *copy.map;
    int at[5] = {};
    for (unsigned done = 0; done < bytes_of(map); done += map.element_bytes) {
        bring(copy, at, exchanged(copy.to + done));
        for (unsigned i = 0; i < map.rank && ++at[i] == (int)map.box[i]; i++) at[i] = 0;
    }
    copy.arrival->bytes -= bytes_of(map);
    end_phase(copy.arrival);
}

// Have what was meant for a barrier arrive.
inline void deliver(Arrival *arrival) {
    unsigned kept = 0;
    for (unsigned i = 0; i < boxes_under_way; i++) {
        const BoxCopy copy = boxes[i];
        if (copy.arrival == arrival) bring_all(copy);
        else boxes[kept++] = copy;
    }
    boxes_under_way = kept;
}

inline void start_copy(void *to, const TensorMap &map, unsigned long long *arrival, unsigned rank, const int *start) {
    if (map.known != 0x7e5042) refuse("a tensor map that nobody has encoded");
    if (map.rank != rank) refuse("a box of another rank than its tensor map");
    if ((uintptr_t)to % 1024) refuse("a span that does not begin where its pieces are in order");
    if (boxes_under_way == 64) refuse("more boxes under way than this shim has room for");
    memset(to, 0xcb, bytes_of(map));
    BoxCopy &copy = boxes[boxes_under_way++];
    copy = {(char *)to, &map, opened(arrival), {}};
    memcpy(copy.start, start, rank * sizeof *start);
}

inline const char *look_for_boxes() {
    return boxes_under_way ? "boxes are under way when a block ends: nobody has waited for them" : nullptr;
}
static const bool looks = simt::at_end = look_for_boxes;

}  // namespace shim

inline char *aligned_memory() { return simt::dynamic_memory; }

template <int COPIES, int STAGES>
void open_arrivals(unsigned long long (&arrivals)[STAGES]) {
    if (simt::current) return;
    shim::boxes_under_way = 0;  // of a launch that failed
    for (unsigned long long &word : arrivals) *(shim::Arrival *)&word = {0, COPIES, COPIES, 0, shim::is_open};
}

inline void expect_bytes(unsigned long long *at, int bytes) {
    shim::Arrival *arrival = shim::opened(at);
    if (!arrival->left) shim::refuse("more arrivals of a phase than its barrier was made for");
    arrival->left--;
    arrival->bytes += bytes;
    shim::end_phase(arrival);
}

inline void wait_for_arrival(unsigned long long *at, unsigned parity) {
    shim::Arrival *arrival = shim::opened(at);
    for (unsigned turn = 0; arrival->phase == parity; turn++) {  // the phase of this parity has not ended
        shim::deliver(arrival);
        if (arrival->phase != parity) break;
        if (turn == shim::most_turns) {
            snprintf(simt::message, sizeof simt::message,
                     "thread %u of block %u waits for a phase that does not end: %u arrivals and %d bytes are left",
                     simt::current, simt::block_index.x, arrival->left, arrival->bytes);
            simt::fail();
        }
        simt::make_ready(simt::current);
        simt::wait_here();
    }
}

template <class... REST>
void copy_span(void *to, const TensorMap &map, unsigned long long *arrival, REST... start) {
    const int starts[] = {start...};
    shim::start_copy(to, map, arrival, sizeof...(start), starts);
}
