// GPU threads as fibers of one CPU thread: blocks one after another, the threads of a block in turns.
//
// A thread runs until it ends or waits: at a barrier of its block, or in an operation in which the lanes of a
// warp meet. Then the next one goes on, without a system call. A thread that never waits costs a function
// call: threads begin one after another on one stack, and only one that waits keeps its stack.
#pragma once
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

namespace simt {

struct Index {
    unsigned x, y, z;
};

constexpr unsigned most_threads = 1024, most_lanes = 128, stack_bytes = 256 << 10, page = 16 << 10;

// the thread that runs now, its block, and their extents
static Index thread_index, block_index, block_extent, grid_extent;
static char *dynamic_memory;  // of the block, as much as the launch asks for

typedef void (*Operation)(void *const *lanes, unsigned mask);

// A stack with what runs on it: threads one after another, until one of them waits.
struct Worker {
    jmp_buf context;
    bool begun;
    char *stack;
};

struct Thread {
    Worker *worker;
    // of the operation in which it meets others: its lanes, what they do, and this thread's part
    Operation operation;  // null: it is in none
    unsigned width, mask;
    void *part;
    int line;  // where it waits
};

static Worker workers[most_threads], *idle[most_threads], *beginning;
static Thread threads[most_threads];
static unsigned order[most_threads], ready[most_threads];
static unsigned workers_used, idle_count, count, begun, ended, ready_first, ready_count, current;
static unsigned arrived, barrier_line;  // of the block's barrier
static const char *(*at_end)();  // of a block: what is wrong with what it leaves, or null
static void (*body)(void *);
static void *body_argument;
static jmp_buf home;
static char message[300];

// ------------------------------------------------------------------------------------------ switching

[[noreturn]] static void fail() { _longjmp(home, 2); }

static inline void enter(unsigned thread) {
    current = thread;
    const unsigned x = block_extent.x, y = block_extent.y;
    thread_index = y == 1 && block_extent.z == 1 ? Index{thread, 0, 0} : Index{thread % x, thread / x % y, thread / (x * y)};
}

[[noreturn]] static void go_on();

static void work() {
    Worker *const self = beginning;
    for (;;) {
        while (begun < count) {
            const unsigned thread = order[begun++];
            threads[thread].worker = self;
            threads[thread].operation = nullptr;
            enter(thread);
            body(body_argument);
            ended++;
        }
        idle[idle_count++] = self;
        if (!_setjmp(self->context)) go_on();
    }
}

[[noreturn]] static void begin(Worker *worker) {
    if (!worker->stack) {  // with a page below it that nobody may touch
        void *memory = mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE)) abort();
        worker->stack = (char *)memory + page;
    }
    worker->begun = true;
    beginning = worker;
    static ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = worker->stack;
    context.uc_stack.ss_size = stack_bytes;
    context.uc_link = nullptr;
    makecontext(&context, work, 0);
    setcontext(&context);
    abort();
}

// The next thread: one that has not begun, else the one that is ready longest; none: the block is at its end.
[[noreturn]] static void go_on() {
    Worker *next;
    if (begun < count) {
        next = idle_count ? idle[--idle_count] : &workers[workers_used++];
    } else if (ready_count) {
        const unsigned thread = ready[ready_first];
        ready_first = (ready_first + 1) % most_threads;
        ready_count--;
        next = threads[thread].worker;
    } else {
        _longjmp(home, 1);
    }
    if (!next->begun) begin(next);
    _longjmp(next->context, 1);
}

static inline void make_ready(unsigned thread) { ready[(ready_first + ready_count++) % most_threads] = thread; }

__attribute__((noinline)) static void wait_here() {
    const unsigned thread = current;
    if (!_setjmp(threads[thread].worker->context)) go_on();
    enter(thread);
}

// -------------------------------------------------------------------------------------------- meeting

// All threads of the block wait for each other. A thread that waits at another line is an error.
static void barrier(int line) {
    if (arrived == 0) barrier_line = line;
    if (barrier_line != (unsigned)line) {
        snprintf(message, sizeof message, "threads of block %u wait at two barriers, of lines %u and %d", block_index.x,
                 barrier_line, line);
        fail();
    }
    if (++arrived == count) {
        arrived = 0;
        for (unsigned i = 0; i < count; i++) make_ready(order[i]);
    }
    wait_here();
}

// The lanes of `mask` (all of them if a group has more than 32) meet: the last to come does the operation for
// all, on the part of each, which is null where the mask has no lane. Threads of a block form groups of `width`.
template <class Part>
static void meet(unsigned width, unsigned mask, Part &part, void (*operation)(Part *const *lanes, unsigned mask)) {
    const unsigned self = current, first = self / width * width;
    const unsigned present = count - first < width ? count - first : width;
    Thread &own = threads[self];
    own.operation = (Operation)operation;
    own.width = width;
    own.mask = mask;
    own.part = &part;
    if (width <= 32 && !(mask >> (self - first) & 1)) {
        snprintf(message, sizeof message, "thread %u of block %u meets lanes of mask %08x, which lacks its own", self,
                 block_index.x, mask);
        fail();
    }
    void *lanes[most_lanes];
    for (unsigned i = 0, lane = self - first; i < present; i++, lane = lane + 1 == present ? 0 : lane + 1) {
        const Thread &other = threads[first + lane];
        const bool named = width > 32 || mask >> lane & 1;
        lanes[lane] = nullptr;
        if (!named) continue;
        const bool here = other.operation == own.operation && other.width == width && other.mask == mask;
        if (!here) return wait_here();
        lanes[lane] = other.part;
    }
    for (unsigned lane = present; lane < width; lane++) lanes[lane] = nullptr;
    operation((Part *const *)lanes, mask);
    for (unsigned lane = 0; lane < present; lane++) {
        if (!lanes[lane]) continue;
        threads[first + lane].operation = nullptr;
        if (first + lane != self) make_ready(first + lane);
    }
}

// ------------------------------------------------------------------------------------------ launching

static void describe_waiting() {
    if (arrived) {
        snprintf(message, sizeof message, "barrier of line %u: %u of %u threads of block %u wait there, and %u have ended",
                 barrier_line, arrived, count, block_index.x, ended);
        return;
    }
    for (unsigned thread = 0; thread < count; thread++) {
        if (!threads[thread].operation) continue;
        snprintf(message, sizeof message, "thread %u of block %u waits for lanes %08x of its warp, which do not all come",
                 thread, block_index.x, threads[thread].mask);
        return;
    }
}

// How threads of a block take turns: 0 ascending, 1 descending (and blocks, too), else at random from that seed.
static void make_order(unsigned seed) {
    for (unsigned i = 0; i < count; i++) order[i] = seed == 1 ? count - 1 - i : i;
    for (unsigned i = count; seed > 1 && i > 1; i--) {
        seed = seed * 1664525u + 1013904223u;
        const unsigned other = (seed >> 8) % i, kept = order[i - 1];
        order[i - 1] = order[other];
        order[other] = kept;
    }
}

static void on_signal(int signal, siginfo_t *info, void *) {
    const bool memory = signal == SIGSEGV || signal == SIGBUS;
    snprintf(message, sizeof message, "thread %u of block %u %s %p", current, block_index.x,
             memory ? "reads or writes what is not its own, at" : "indexes beyond an array, or traps, at", info->si_addr);
    fail();
}

// While it lives, a fault of a kernel is an error of its launch.
struct Faults {
    static constexpr int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP};
    struct sigaction before[4];
    stack_t stack_before;

    Faults() {
        static char stack[64 << 10];  // a handler needs one where a fiber's own is used up
        stack_t own = {};
        own.ss_sp = stack;
        own.ss_size = sizeof stack;
        sigaltstack(&own, &stack_before);
        struct sigaction action = {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (int i = 0; i < 4; i++) sigaction(signals[i], &action, &before[i]);
    }
    ~Faults() {
        for (int i = 0; i < 4; i++) sigaction(signals[i], &before[i], nullptr);
        sigaltstack(&stack_before, nullptr);
    }
};

// Returns null, or what went wrong.
static const char *run_block() {
    begun = ended = arrived = ready_first = ready_count = 0;
    const int how = _setjmp(home);
    if (how == 0) go_on();
    if (how == 1 && ended == count) return at_end ? at_end() : nullptr;
    if (how == 1) describe_waiting();
    for (unsigned i = 0; i < workers_used; i++) workers[i].begun = false;
    workers_used = idle_count = 0;
    return message;
}

static const char *run(void (*kernel)(void *), void *argument, Index grid, Index block, unsigned bytes, unsigned seed) {
    count = block.x * block.y * block.z;
    if (count == 0 || count > most_threads) return "a block has 1 to 1024 threads";
    body = kernel;
    body_argument = argument;
    grid_extent = grid;
    block_extent = block;
    make_order(seed);
    dynamic_memory = (char *)aligned_alloc(1024, (bytes + 1023) / 1024 * 1024 + 1024);
    const char *error = nullptr;
    const Faults faults;
    const unsigned long blocks = (unsigned long)grid.x * grid.y * grid.z;
    for (unsigned long i = 0; i < blocks && !error; i++) {
        const unsigned long block = seed == 1 ? blocks - 1 - i : i;
        block_index = Index{unsigned(block % grid.x), unsigned(block / grid.x % grid.y), unsigned(block / grid.x / grid.y)};
        error = run_block();
    }
    free(dynamic_memory);
    return error;
}

// A function of any parameters, called with the values at these addresses (as a GPU's driver takes them).
template <class... P>
struct Call {
    void (*kernel)(P...);
    void **values;

    template <class T, T... I>
    struct Numbered {
        static void call(const Call &of) { of.kernel(*(P *)of.values[I]...); }
    };

    static void run(void *self) { __make_integer_seq<Numbered, int, sizeof...(P)>::call(*(Call *)self); }
};

template <class... P>
static const char *launch(void (*kernel)(P...), void **values, unsigned grid, unsigned block, unsigned bytes, unsigned seed) {
    Call<P...> call = {kernel, values};
    return run(Call<P...>::run, &call, Index{grid, 1, 1}, Index{block, 1, 1}, bytes, seed);
}

}  // namespace simt
