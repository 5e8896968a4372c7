// The names of `device.cuh` for a C++ compiler: a block's threads are fibers that run one after the other, from barrier to
// barrier. Shared memory is poisoned before each block, asynchronous copies happen at their wait and poison their destination
// until then, every access of an argument is checked, and a block that cannot go on is an error. Not fast, not parallel.
// With GR_RACE a block's threads are threads of the system instead, for a sanitizer to watch.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

typedef long long i64;
typedef unsigned long long u64;
typedef int i32;
typedef short i16;
typedef signed char i8;
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

#define GR_DEVICE static inline __attribute__((unused))
#define GR_DEVICE_MEMBER inline
#define GR_KERNEL(name, threads) static void name
#define GR_SHARED(name, bytes) u8* const name = gr_shared_memory(bytes)
#define GR_DYNAMIC(name) u8* const name = gr_dynamic_memory()
#define GR_LOCAL(T) gr_pointer<T>
#define GR_IN(T) gr_pointer<const T>
#define GR_OUT(T) gr_pointer<T>
#define GR_EXCHANGE(T) gr_pointer<T>
#define GR_STATUS u64*
#define GR_UNROLL
#define GR_ROLLED

// What a launch is given, by the Rust side.
struct gr_launch {
    void* const* pointers;
    const i64* lengths; // in bytes, a pointer
    const i64* sizes;
    u64* status;
    i64 blocks;
    u32 threads;
    u32 launch;
    u32 barriers;
    u32 order; // 0: threads run in order, 1: in reverse
    u32 dynamic; // bytes of shared memory beside what the kernel declares
    u64* read; // bytes of arguments that are only read, counted up
    char* message; // 256 bytes, empty if all is well
};

enum gr_state { GR_READY, GR_AT_BLOCK, GR_AT_WARP, GR_DONE };

struct gr_copy {
    void* to;
    const void* from;
    i32 group;
};

struct gr_fiber {
    void* stack_pointer;
    gr_state state;
    i32 line;
    i32 groups;
    std::vector<gr_copy> copies;
};

const i64 GR_STACK = 64 << 10, GR_MOST_THREADS = 1024, GR_MOST_SHARED = 228 << 10;

// The machine of one OS thread.
struct gr_machine {
    const gr_launch* launch = nullptr;
    void (*kernel)(const gr_launch*) = nullptr;
    i64 block = 0;
    i32 thread = 0;
    void* scheduler = nullptr;
    u8* stacks = nullptr;
    u8* shared = nullptr;
    i64 shared_bytes = 0;
    std::vector<gr_fiber> fibers = std::vector<gr_fiber>(GR_MOST_THREADS);
    u64 (*published)[8] = nullptr;
    ~gr_machine() {
#ifndef GR_RACE
        free(stacks);
        free(shared);
        free(published);
#endif
    }
};

static gr_machine& gr_here() {
    static thread_local gr_machine machine;
    return machine;
}

static void __attribute__((cold, noinline)) gr_report(const char* format, i64 x, i64 y) {
    char* message = gr_here().launch->message;
    if (message[0]) return;
    int used = snprintf(message, 256, format, x, y);
    snprintf(message + used, 256 - used, ", in thread %d of block %lld", gr_here().thread, gr_here().block);
}

// ---- memory

// Counts what is read of an argument that is only read.
template <class T>
static void gr_count(i64 elements) {
#ifndef GR_RACE
    if (std::is_const<T>::value) *gr_here().launch->read += elements * sizeof(T);
#endif
}

// A pointer that knows how many elements there are.
template <class T>
struct gr_pointer {
    T* first;
    i64 count;
    T& operator[](i64 i) const {
        if ((u64)i >= (u64)count) {
            static thread_local typename std::remove_const<T>::type nowhere;
            gr_report("element %lld of %lld", i, count);
            return nowhere;
        }
        gr_count<T>(1);
        return first[i];
    }
};

template <class T>
static gr_pointer<T> gr_argument(const gr_launch* launch, i32 position) {
    return gr_pointer<T>{(T*)launch->pointers[position], launch->lengths[position] / (i64)sizeof(T)};
}

template <class T>
static T* gr_at(gr_pointer<T> argument, i64 offset, i32 count) {
    static thread_local typename std::remove_const<T>::type nowhere[64];
    if (offset < 0 || offset + count > argument.count) {
        gr_report("elements from %lld on of %lld", offset, argument.count);
        return nowhere;
    }
    gr_count<T>(count);
    return argument.first + offset;
}

template <class T>
static T& gr_place(gr_pointer<u8> memory, i64 offset) {
    static thread_local T nowhere;
    if (offset < 0 || offset + (i64)sizeof(T) > memory.count) {
        gr_report("byte %lld of %lld bytes of scratch", offset, memory.count);
        return nowhere;
    }
    return *(T*)(memory.first + offset);
}

// Bytes that the kernel declares, with what lies between them and those that the launch gives.
static i64 gr_declared(const gr_machine& here) { return (here.shared_bytes + 15) / 16 * 16; }

template <class T>
static gr_pointer<T> gr_local(u8* shared, i32 offset, i32 count) {
    const gr_machine& here = gr_here();
    const i64 end = shared + offset + count * (i64)sizeof(T) - here.shared, all = gr_declared(here) + here.launch->dynamic;
    const bool declared = shared == here.shared && here.shared_bytes > 0;
    if (end > (declared ? here.shared_bytes : all)) gr_report("shared memory up to %lld of %lld", end, all);
    return gr_pointer<T>{(T*)(shared + offset), count};
}

static u8* gr_shared_memory(i64 bytes) {
    gr_machine& here = gr_here();
    // As the assembler has it.
    if (bytes > 48 * 1024) gr_report("%lld bytes of shared memory are declared, more than %lld", bytes, (i64)(48 * 1024));
    here.shared_bytes = bytes;
    return here.shared;
}
static u8* gr_dynamic_memory() { return gr_here().shared + gr_declared(gr_here()); }
GR_DEVICE i32 gr_dynamic_bytes() { return (i32)gr_here().launch->dynamic; }

// ---- threads

static i32 gr_thread() { return gr_here().thread; }
static i64 gr_block() { return gr_here().block; }
GR_DEVICE i64 gr_blocks() { return gr_here().launch->blocks; }

#ifdef GR_RACE
#include <pthread.h>
#include <thread>

static pthread_barrier_t gr_block_barrier, gr_warp_barriers[GR_MOST_THREADS / 32];

static void gr_yield(gr_state state, i32) {
    pthread_barrier_wait(state == GR_AT_BLOCK ? &gr_block_barrier : &gr_warp_barriers[gr_here().thread / 32]);
}
#define gr_sync() gr_yield(GR_AT_BLOCK, __LINE__)
#define gr_warp_sync() gr_yield(GR_AT_WARP, __LINE__)

// Runs a kernel's blocks one after the other, the threads of each at once.
static void gr_run(const gr_launch* launch, void (*kernel)(const gr_launch*)) {
    u8* shared = (u8*)aligned_alloc(64, GR_MOST_SHARED);
    auto published = (u64(*)[8])calloc(GR_MOST_THREADS, 8 * sizeof(u64));
    pthread_barrier_init(&gr_block_barrier, nullptr, launch->threads);
    for (u32 warp = 0; warp * 32 < launch->threads; warp++) pthread_barrier_init(&gr_warp_barriers[warp], nullptr, 32);
    for (i64 block = 0; block < launch->blocks; block++) {
        std::vector<std::thread> threads;
        for (u32 t = 0; t < launch->threads; t++)
            threads.emplace_back([=] {
                gr_machine& here = gr_here();
                here.launch = launch;
                here.block = block;
                here.thread = (i32)t;
                here.shared = shared;
                here.published = published;
                kernel(launch);
            });
        for (std::thread& thread : threads) thread.join();
    }
    free(shared);
    free(published);
}
#else

#if defined(__x86_64__)
// Saves what a call must preserve on the stack, and goes on at another stack.
__attribute__((naked, noinline)) static void gr_switch(void**, void*) {
    asm("pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15;"
        "movq %rsp, (%rdi); movq %rsi, %rsp;"
        "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; ret");
}
static void* gr_new_stack(u8* top, void (*entry)()) {
    void** sp = (void**)((u64)top & ~15ull) - 1;
    *sp = nullptr; // a return address for `entry`, which does not return
    *--sp = (void*)entry;
    for (int i = 0; i < 6; i++) *--sp = nullptr;
    return sp;
}
#else
#include <ucontext.h>
struct gr_context { ucontext_t at; };
static void gr_switch(void** from, void* to) {
    gr_context* own = new gr_context;
    *from = own;
    swapcontext(&own->at, &((gr_context*)to)->at);
    delete own;
}
static void* gr_new_stack(u8* top, void (*entry)()) {
    gr_context* made = new gr_context;
    getcontext(&made->at);
    made->at.uc_stack.ss_sp = top - GR_STACK;
    made->at.uc_stack.ss_size = GR_STACK;
    made->at.uc_link = nullptr;
    makecontext(&made->at, entry, 0);
    return made;
}
#endif

// Gives way to the other threads.
static void gr_yield(gr_state state, i32 line) {
    gr_machine& here = gr_here();
    if (!here.launch->barriers) {
        gr_report("a barrier in a kernel that says it has none, line %lld", line, 0);
        return;
    }
    gr_fiber& fiber = here.fibers[here.thread];
    fiber.state = state;
    fiber.line = line;
    gr_switch(&fiber.stack_pointer, here.scheduler);
}

#define gr_sync() gr_yield(GR_AT_BLOCK, __LINE__)
#define gr_warp_sync() gr_yield(GR_AT_WARP, __LINE__)

static void gr_fiber_main() {
    gr_machine& here = gr_here();
    here.kernel(here.launch);
    gr_yield(GR_DONE, 0);
    abort();
}

// Lets threads go on that wait for nothing any more: whole warps, or the whole block. At different lines they do not meet.
static bool gr_release(gr_machine& here, i32 first, i32 last, gr_state state) {
    i32 line = -1, ended = -1;
    for (i32 t = first; t < last; t++) {
        gr_fiber& fiber = here.fibers[t];
        if (fiber.state == GR_DONE) {
            ended = t;
            continue;
        }
        if (fiber.state != state) return false;
        if (line >= 0 && fiber.line != line) {
            gr_report("threads wait at different barriers, lines %lld and %lld", line, fiber.line);
            return false;
        }
        line = fiber.line;
    }
    // A block's barrier is for threads that have not ended; what a warp exchanges is for all of its lanes.
    if (state == GR_AT_WARP && line >= 0 && ended >= 0) {
        gr_report("a warp waits at line %lld for its thread %lld, which has ended", line, ended);
        return false;
    }
    for (i32 t = first; t < last; t++)
        if (here.fibers[t].state == state) here.fibers[t].state = GR_READY;
    return line >= 0;
}

static void gr_run_fibers(gr_machine& here) {
    const i32 threads = (i32)here.launch->threads;
    for (i32 t = 0; t < threads; t++) {
        gr_fiber& fiber = here.fibers[t];
        fiber.state = GR_READY;
        fiber.groups = 0;
        fiber.copies.clear();
        fiber.stack_pointer = gr_new_stack(here.stacks + (t + 1) * GR_STACK, gr_fiber_main);
    }
    for (;;) {
        i32 done = 0;
        for (i32 i = 0; i < threads; i++) {
            i32 t = here.launch->order ? threads - 1 - i : i;
            if (here.fibers[t].state == GR_READY) {
                here.thread = t;
                gr_switch(&here.scheduler, here.fibers[t].stack_pointer);
            }
        }
        for (i32 t = 0; t < threads; t++) done += here.fibers[t].state == GR_DONE;
        if (done == threads || here.launch->message[0]) return;
        bool released = false;
        for (i32 t = 0; t < threads; t += 32) released |= gr_release(here, t, t + 32 < threads ? t + 32 : threads, GR_AT_WARP);
        if (!released) released = gr_release(here, 0, threads, GR_AT_BLOCK);
        if (!released) {
            gr_report("deadlock: %lld of %lld threads have ended, the others wait for one another", done, threads);
            return;
        }
    }
}

// Runs a kernel's blocks one after the other, in the order of threads.
static void gr_run(const gr_launch* launch, void (*kernel)(const gr_launch*)) {
    gr_machine& here = gr_here();
    here.launch = launch;
    here.kernel = kernel;
    if (!here.shared) {
        here.shared = (u8*)aligned_alloc(64, GR_MOST_SHARED);
        here.published = (u64(*)[8])calloc(GR_MOST_THREADS, 8 * sizeof(u64));
        here.stacks = (u8*)aligned_alloc(64, GR_STACK * GR_MOST_THREADS);
    }
    for (i64 i = 0; i < launch->blocks && !launch->message[0]; i++) {
        here.block = launch->order ? launch->blocks - 1 - i : i;
        memset(here.shared, 0xff, i ? gr_declared(here) + launch->dynamic : GR_MOST_SHARED);
        if (launch->barriers) {
            gr_run_fibers(here);
        } else {
            for (u32 t = 0; t < launch->threads; t++) {
                here.thread = (i32)(launch->order ? launch->threads - 1 - t : t);
                kernel(launch);
            }
        }
    }
    here.shared_bytes = 0;
}
#endif

// ---- what threads exchange

// Every lane's words, where the whole warp can see them.
static void gr_publish(const u64* words, i32 count) {
    gr_machine& here = gr_here();
    memcpy(here.published[here.thread], words, count * sizeof(u64));
    gr_warp_sync();
}

GR_DEVICE u32 gr_shuffle_bits(u32 x, i32 lanes) {
    u64 word = x;
    gr_publish(&word, 1);
    u32 other = (u32)gr_here().published[gr_here().thread ^ lanes][0];
    gr_warp_sync();
    return other;
}

GR_DEVICE u64 gr_least(u64* status, u64 x) {
    u64 old = __atomic_load_n(status, __ATOMIC_RELAXED);
    while (x < old && !__atomic_compare_exchange_n(status, &old, x, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}
GR_DEVICE u64 gr_status(const u64* status) { return __atomic_load_n(status, __ATOMIC_RELAXED); }

// ---- numbers

GR_DEVICE float gr_fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
GR_DEVICE double gr_fma(double x, double y, double z) { return __builtin_fma(x, y, z); }
GR_DEVICE u32 gr_high(u32 x, u32 y) { return (u32)((u64)x * y >> 32); }
template <class To, class From>
static inline To gr_same_bits(From x) {
    To y;
    static_assert(sizeof(To) == sizeof(From), "bits of one size");
    memcpy(&y, &x, sizeof(To));
    return y;
}
GR_DEVICE u32 gr_bits(float x) { return gr_same_bits<u32>(x); }
GR_DEVICE u64 gr_bits(double x) { return gr_same_bits<u64>(x); }
GR_DEVICE float gr_float(u32 x) { return gr_same_bits<float>(x); }
GR_DEVICE double gr_double(u64 x) { return gr_same_bits<double>(x); }

GR_DEVICE float gr_half_to_float(u16 bits) {
    u32 sign = (u32)(bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
    if (exponent == 31) return gr_float(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) return gr_float(sign | gr_bits((float)fraction * 5.9604644775390625e-08f));
    return gr_float(sign | (exponent + 112) << 23 | fraction << 13);
}

// To nearest, ties to even.
GR_DEVICE u16 gr_half_of_float(float x) {
    u32 bits = gr_bits(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (u16)0x7fff;
    if (magnitude >= 0x477ff000u) return (u16)(sign | 0x7c00u);
    // Adding and taking away a half's ulp near 2^-24 rounds a denormal.
    if (magnitude < 0x38800000u) return (u16)(sign | (gr_bits(gr_float(magnitude) + 0.5f) - 0x3f000000u));
    u32 rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return (u16)(sign | (rounded - 0x38000000u) >> 13);
}

struct gr_quad { u32 word[4]; };

GR_DEVICE u64 gr_address(const void* pointer) { return (u64)pointer; }

// What is read or written at once lies at a multiple of its size, or a GPU faults.
template <class T>
static T* gr_aligned(T* at, i64 bytes) {
    if (gr_address(at) % bytes) gr_report("%lld bytes at once, %lld behind a multiple of that", bytes, gr_address(at) % bytes);
    return at;
}

GR_DEVICE gr_quad gr_read16(const void* from) {
    gr_quad x;
    memcpy(&x, gr_aligned(from, 16), 16);
    return x;
}
GR_DEVICE void gr_write16(void* to, gr_quad x) { memcpy(gr_aligned(to, 16), &x, 16); }

// ---- asynchronous copies

GR_DEVICE void gr_copy16(void* to, const void* from) {
    gr_fiber& fiber = gr_here().fibers[gr_here().thread];
    if (gr_address(to) % 16 || gr_address(from) % 16) gr_report("an asynchronous copy to %lld from %lld mod 16", gr_address(to) % 16, gr_address(from) % 16);
    memset(to, 0xff, 16);
    fiber.copies.push_back(gr_copy{to, from, fiber.groups});
}

GR_DEVICE void gr_copy_commit() { gr_here().fibers[gr_here().thread].groups++; }

template <int pending>
GR_DEVICE void gr_copy_wait() {
    gr_fiber& fiber = gr_here().fibers[gr_here().thread];
    std::vector<gr_copy> left;
    for (const gr_copy& copy : fiber.copies) {
        if (copy.group < fiber.groups - pending) memcpy(copy.to, copy.from, 16);
        else left.push_back(copy);
    }
    fiber.copies.swap(left);
}

// ---- tensor instructions

// Fragments of b from 16 rows of eight neighbours: a lane gets of the rows 2 (lane % 4) and the next, and of eight rows further, the
// element lane / 4.
template <class T>
GR_DEVICE void gr_read_turned(u32* b, const T* row) {
    gr_machine& here = gr_here();
    if (gr_address(row) % 16) gr_report("rows of fragments at %lld mod 16", gr_address(row) % 16, 0);
    const u64 own = gr_address(row);
    gr_publish(&own, 1);
    const i32 lane = here.thread % 32, warp = here.thread - lane, group = lane / 4, pair = lane % 4 * 2;
    for (i32 r = 0; r < 2; r++) {
        b[r] = 0;
        for (i32 half = 0; half < 2; half++) b[r] |= (u32)((const u16*)here.published[warp + r * 8 + pair + half][0])[group] << 16 * half;
    }
    gr_warp_sync();
}

// d += a b over 16 x 8 x 16 by a warp; fragments as PTX lays them out.
template <class ToFloat>
static void gr_mma(float* d, const u32* a, const u32* b, ToFloat to_float) {
    gr_machine& here = gr_here();
    u64 words[3] = {a[0] | (u64)a[1] << 32, a[2] | (u64)a[3] << 32, b[0] | (u64)b[1] << 32};
    gr_publish(words, 3);
    const i32 lane = here.thread % 32, warp = here.thread - lane, group = lane / 4, pair = lane % 4;
    auto half_of = [&](u64 word, i32 reg, i32 half) { return to_float((u16)(word >> (32 * reg + 16 * half))); };
    for (i32 i = 0; i < 4; i++) {
        const i32 row = group + 8 * (i / 2), column = 2 * pair + i % 2;
        float sum = d[i];
        for (i32 k = 0; k < 16; k++) {
            // Register 0: rows 0..8, k 0..8; 1: rows 8..16; 2 and 3: k 8..16.
            const i32 reg = row / 8 + 2 * (k / 8), from = (row % 8) * 4 + k % 8 / 2;
            const float x = half_of(here.published[warp + from][reg / 2], reg % 2, k % 2);
            const float y = half_of(here.published[warp + column * 4 + k % 8 / 2][2], k / 8, k % 2);
            sum += x * y;
        }
        d[i] = sum;
    }
    gr_warp_sync();
}

GR_DEVICE void gr_mma_bf16(float* d, const u32* a, const u32* b) {
    gr_mma(d, a, b, [](u16 bits) { return gr_float((u32)bits << 16); });
}
GR_DEVICE void gr_mma_f16(float* d, const u32* a, const u32* b) {
    gr_mma(d, a, b, [](u16 bits) { return gr_half_to_float(bits); });
}
