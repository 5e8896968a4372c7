// What the driver that pretends has: errors and their words, memory between guards, streams and what is put on them. `cuda.cpp` is the
// driver over it.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <dlfcn.h>
#include <elf.h>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <unistd.h>
#include <utility>
#include <vector>

typedef int CUresult;
typedef uint64_t u64;
typedef uint32_t u32;
typedef uint8_t u8;

enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, LAUNCH_OUT_OF_RESOURCES = 701, NOT_SUPPORTED = 801,
    STREAM_CAPTURE_UNSUPPORTED = 900, STREAM_CAPTURE_INVALIDATED = 901, UNKNOWN = 999,
};

// Their names and words; of some the driver has none.
struct Error {
    const char *name, *words;
};
static const std::map<int, Error> ERRORS = {
    {SUCCESS, {"CUDA_SUCCESS", "no error"}},
    {INVALID_VALUE, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {OUT_OF_MEMORY, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
    {NOT_INITIALIZED, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
    {INVALID_DEVICE, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
    {INVALID_IMAGE, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
    {INVALID_CONTEXT, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
    {INVALID_HANDLE, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
    {NOT_FOUND, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
    {ILLEGAL_ADDRESS, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
    {LAUNCH_OUT_OF_RESOURCES, {"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"}},
    {NOT_SUPPORTED, {"CUDA_ERROR_NOT_SUPPORTED", "operation not supported"}},
    {STREAM_CAPTURE_UNSUPPORTED, {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"}},
    {STREAM_CAPTURE_INVALIDATED, {"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"}},
    {UNKNOWN, {"CUDA_ERROR_UNKNOWN", nullptr}},
};

// ---- what there is

// What happened so far, and what lives, in the order of `Counts` in `fake.rs`.
struct Counts {
    u64 copied_in, bytes_in, copied_out, bytes_out, copied_within, launches, captures, replays, modules_loaded, allocations, granted;
    u64 live_allocations, live_bytes, live_pinned, live_streams, live_graphs, live_modules, live_contexts;
};

struct Device;
struct Allocation {
    // Asked for, and given out between the guards.
    u64 bytes, capacity;
    // None has memory that is pinned.
    const Device* device;
    // Which of all that ever were.
    u64 number;
};

// Does what was enqueued.
typedef std::function<CUresult()> Work;

struct Graph {
    std::vector<Work> works;
    // Of the kernels in it.
    std::set<void*> modules;
    Device* device;
};
// Who may do what would end a capture: nobody, others than the thread that records, everybody.
enum Mode { GLOBAL = 0, THREAD_LOCAL = 1, RELAXED = 2 };
struct Stream {
    Device* device;
    std::deque<Work> queue;
    std::unique_ptr<Graph> captured;
    int mode = RELAXED;
    bool invalid = false;
};
// A GPU and its primary context, whose handle is its address.
struct Device {
    Stream null_stream{this};
    int fault = SUCCESS, retained = 0;
};
// `gr_launch` of `shim.h`.
struct Launch {
    void* const* parameters;
    const int64_t* lengths;
    const int64_t* sizes;
    u64* status;
    int64_t blocks;
    u32 threads, launch, barriers, order, dynamic;
    u64* read;
    char* message;
};
// Bytes of shared memory that a launch may give: without being asked for, and at most.
static const u32 USUAL_SHARED = 48 << 10, MOST_SHARED = 227 << 10;
struct Module;
struct Function {
    Module* module;
    void (*run)(const Launch*);
    // Of a block, and bytes of shared memory that its text declares.
    u32 threads, declared;
    std::vector<u32> sizes;
    // Bytes that a launch may give besides: of both together there are so many.
    u32 dynamic;
};
struct Module {
    Device* device;
    void* library;
    std::map<std::string, std::unique_ptr<Function>> functions;
};

// Memory is given out by the page.
static const u64 GUARD = 256, PAGE = 4096;
static std::recursive_mutex all;
static std::map<u64, Allocation> memory;
// What was let go of, pinned or not, the latest last: it is given out again first, at the same address.
static std::vector<std::pair<u8*, u64>> idle[2];
static u64 ever = 0;
static std::set<void*> streams, graphs, modules, functions;
static Device devices[2];
static int gpus = 1;
static Counts counts;
// Of all GPUs together.
static u64 limit = ~0ull;
static int capability = 9, version = 13000;
static bool started = false;
static u64 faulty = ~0ull;
// Calls go well before it, and after it if it does not last.
struct Failure {
    u64 after;
    int code;
    bool lasts;
};
// What a test asks for, in its own process or of a command.
static std::map<std::string, Failure> failures = [] {
    const char* function = getenv("FAKE_CUDA_FAILS");
    return function ? std::map<std::string, Failure>{{function, {0, 999, false}}} : std::map<std::string, Failure>{};
}();
// A thread's own context, and the stream that it records.
static thread_local Device* current = nullptr;
static thread_local Stream* capturing = nullptr;
// Whose kernel runs.
static const Device* running = nullptr;

static int failed_kernel(Device* device, const char* what, const std::string& why) {
    fprintf(stderr, "fake GPU: %s: %s\n", what, why.c_str());
    return device->fault = ILLEGAL_ADDRESS;
}

// Bytes from an address to the end of what was allocated around it on a device, or pinned.
static int64_t room(u64 address, const Device* device) {
    auto after = memory.upper_bound(address);
    if (after == memory.begin()) return 0;
    auto& [begin, allocation] = *--after;
    return allocation.device == device && address < begin + allocation.bytes ? (int64_t)(begin + allocation.bytes - address) : 0;
}
// Which allocation an address is in, as what a copy of a graph was recorded over.
static u64 number_of(u64 address) {
    auto after = memory.upper_bound(address);
    return after == memory.begin() ? 0 : (--after)->second.number;
}
// What a kernel finds there: another device's memory is none.
static int64_t reached(u64 address) { return room(address, running); }

static bool is_pinned(const void* pointer) { return room((u64)pointer, nullptr) > 0; }

static CUresult allocate(void** to, u64 bytes, Device* device) {
    if (!to || !bytes) return INVALID_VALUE;
    const bool pinned = !device;
    if (!pinned && (bytes > limit || counts.live_bytes > limit - bytes)) return OUT_OF_MEMORY;
    u64 capacity = (bytes + PAGE - 1) / PAGE * PAGE;
    u8* whole = nullptr;
    auto& left = idle[pinned];
    for (size_t i = left.size(); i-- && !whole;)
        if (left[i].second >= bytes) {
            std::tie(whole, capacity) = left[i];
            left.erase(left.begin() + i);
        }
    if (!whole) whole = (u8*)aligned_alloc(GUARD, capacity + 2 * GUARD);
    if (!whole) return OUT_OF_MEMORY;
    memset(whole, 0xa5, GUARD);
    memset(whole + GUARD, 0xff, bytes);
    memset(whole + GUARD + bytes, 0xa5, GUARD);
    memory[(u64)whole + GUARD] = {bytes, capacity, device, ++ever};
    counts.allocations += !pinned;
    (pinned ? counts.live_pinned : counts.live_allocations)++;
    if (!pinned) counts.live_bytes += bytes;
    *to = whole + GUARD;
    return SUCCESS;
}

static CUresult release(u64 address, Device* device) {
    auto found = memory.find(address);
    if (found == memory.end() || found->second.device != device) return INVALID_VALUE;
    const bool pinned = !device;
    const u64 bytes = found->second.bytes;
    u8* whole = (u8*)address - GUARD;
    for (u64 i = 0; i < GUARD; i++)
        if (whole[i] != 0xa5 || whole[GUARD + bytes + i] != 0xa5) return failed_kernel(current, "memory", "somebody wrote beside what was allocated");
    memset(whole, 0xdd, bytes + 2 * GUARD);
    // Many pages go back.
    if (found->second.capacity <= 16 * PAGE) idle[pinned].emplace_back(whole, found->second.capacity);
    else free(whole);
    memory.erase(found);
    (pinned ? counts.live_pinned : counts.live_allocations)--;
    if (!pinned) counts.live_bytes -= bytes;
    return SUCCESS;
}

// ---- streams

static CUresult flush(Stream& stream) {
    while (!stream.queue.empty()) {
        Work work = std::move(stream.queue.front());
        stream.queue.pop_front();
        if (stream.device->fault == SUCCESS) work();
    }
    return stream.device->fault;
}

static CUresult put(Stream& stream, Work work) {
    if (stream.captured) stream.captured->works.push_back(std::move(work));
    else stream.queue.push_back(std::move(work));
    return SUCCESS;
}

// A stream of this thread's context.
static CUresult stream_of(void* handle, Stream** to) {
    if (handle && !streams.count(handle)) return INVALID_HANDLE;
    if (!current) return INVALID_CONTEXT;
    *to = handle ? (Stream*)handle : &current->null_stream;
    return (*to)->device == current ? SUCCESS : INVALID_CONTEXT;
}

// Copies when it is its turn; both sides must be there then, a side of the host's that is not pinned being nobody's business.
static Work copying(Device* device, u64 to, u64 from, u64 bytes, bool to_host, bool from_host) {
    const bool to_ours = !to_host || is_pinned((void*)to), from_ours = !from_host || is_pinned((void*)from);
    const u64 over = number_of(to), of = number_of(from);
    return [=] {
        if ((to_ours && number_of(to) != over) || (from_ours && number_of(from) != of)) return failed_kernel(device, "copy", "a side is not the memory any more that it was put on the stream over");
        if (to_ours && room(to, to_host ? nullptr : device) < (int64_t)bytes) return failed_kernel(device, "copy", "its destination is not there any more");
        if (from_ours && room(from, from_host ? nullptr : device) < (int64_t)bytes) return failed_kernel(device, "copy", "its source is not there any more");
        memcpy((void*)to, (void*)from, bytes);
        if (from_host) counts.copied_in++, counts.bytes_in += bytes;
        else if (to_host) counts.copied_out++, counts.bytes_out += bytes;
        else counts.copied_within++;
        return (int)SUCCESS;
    };
}
