// A CUDA driver without a GPU, for tests: `libcuda.so` with the functions that graver calls, over what `machine.h` has. Memory is the host's,
// between guards and poisoned; kernels are libraries that `nvrtc.cpp` made. What is put on a stream happens as late as it may: when the
// stream is waited for. A captured stream records; a graph replays. Errors are those of the real driver; what a kernel does wrong is said on
// stderr.
//
// It knows nothing of time, of caches, of two things at once, nor how a real GPU numbers the fragments of its instructions.

#include "machine.h"

// ---- how calls begin

// A failure that was asked for, which is told once unless it lasts.
static CUresult refused(const char* name) {
    auto asked = failures.find(name);
    if (asked == failures.end()) return SUCCESS;
    if (asked->second.after) return asked->second.after--, SUCCESS;
    const int code = asked->second.code;
    if (!asked->second.lasts) failures.erase(asked);
    return code;
}
// A failure that sticks, a context, and whether there may be a call in a capture: of this thread, and by the manual also of any other that began
// one for all.
static CUresult may(bool in_capture) {
    if (!started) return NOT_INITIALIZED;
    if (!current || !current->retained) return INVALID_CONTEXT;
    if (current->fault != SUCCESS) return current->fault;
    if (in_capture) return SUCCESS;
    bool ended = false;
    for (void* handle : streams) {
        Stream* stream = (Stream*)handle;
        const bool ends = stream->captured && (stream == capturing ? stream->mode != RELAXED : stream->mode == GLOBAL);
        if (ends) ended = stream->invalid = true;
    }
    return ended ? STREAM_CAPTURE_UNSUPPORTED : SUCCESS;
}
#define LOCK std::lock_guard<std::recursive_mutex> lock(all)
#define CHECK(outcome) if (const CUresult code = outcome) return code
// What most calls begin with.
#define ENTER(in_capture) \
    LOCK; \
    CHECK(refused(__func__)); \
    CHECK(may(in_capture))
// What lets go of something does so, and may tell of another's failure then, as the manual has it.
#define LET_GO(in_capture, outcome) \
    LOCK; \
    CHECK(may(in_capture)); \
    CHECK(outcome); \
    return refused(__func__)
#define STREAM(handle) \
    Stream* stream; \
    CHECK(stream_of(handle, &stream))
// A side of the host's in a capture is pinned: a graph does not keep what is not.
#define PINNED(pointer) \
    if (stream->captured && !is_pinned(pointer)) return stream->invalid = true, STREAM_CAPTURE_UNSUPPORTED

static void (*meanwhile)() = nullptr;

extern "C" {

// ---- what tests ask

void fake_counts(Counts* to) {
    LOCK;
    *to = counts;
}
// No more than so many bytes at once.
void fake_limit(u64 bytes) { limit = bytes; }
// Another number of GPUs than one: two at most.
void fake_gpus(int number) { gpus = number; }
// What the next capture is interrupted by, once it has begun.
void fake_meanwhile(void (*work)()) { meanwhile = work; }
// Another compute capability than 9.0.
void fake_capability(int major) { capability = major; }
// Of another CUDA than 13.0: 12040 is 12.4.
void fake_version(int number) { version = number; }
// Failures that were asked for, and not told yet.
u64 fake_failures() {
    LOCK;
    return failures.size();
}
// After so many more calls, one of a function fails with a code; none, with 0.
void fake_fail(const char* name, u64 after, int code) {
    LOCK;
    if (code) failures[name] = {after, code, false};
    else failures.erase(name);
}
// All calls of a function fail with a code from now on, until none is asked for.
void fake_fail_always(const char* name, int code) {
    LOCK;
    failures[name] = {0, code, true};
}
// After so many more launches, one reads where there is nothing.
void fake_fault(u64 after) {
    LOCK;
    faulty = after;
}
// A function that graver does not call, as a test shows: it ends what any thread records.
int cuCtxSynchronize() {
    LOCK;
    CHECK(may(false));
    bool recording = false;
    for (void* handle : streams)
        if (((Stream*)handle)->captured) recording = ((Stream*)handle)->invalid = true;
    if (recording) return STREAM_CAPTURE_UNSUPPORTED;
    flush(current->null_stream);
    for (void* handle : streams)
        if (((Stream*)handle)->device == current) flush(*(Stream*)handle);
    return current->fault;
}

// ---- the driver

#define ASKED \
    LOCK; \
    CHECK(refused(__func__))

CUresult cuInit(u32) {
    ASKED;
    return started = true, SUCCESS;
}
CUresult cuDriverGetVersion(int* to) {
    ASKED;
    return *to = version, SUCCESS;
}
CUresult cuGetErrorString(int code, const char** to) {
    ASKED;
    const auto known = ERRORS.find(code);
    return known != ERRORS.end() && known->second.words ? (*to = known->second.words, SUCCESS) : INVALID_VALUE;
}
CUresult cuGetErrorName(int code, const char** to) {
    ASKED;
    const auto known = ERRORS.find(code);
    return known != ERRORS.end() ? (*to = known->second.name, SUCCESS) : INVALID_VALUE;
}

CUresult cuDeviceGetCount(int* to) {
    ASKED;
    return started ? (*to = gpus, SUCCESS) : NOT_INITIALIZED;
}
CUresult cuDeviceGet(int* to, int ordinal) {
    ASKED;
    return ordinal >= 0 && ordinal < gpus ? (*to = ordinal, SUCCESS) : INVALID_DEVICE;
}
CUresult cuDeviceGetName(char* to, int length, int) {
    ASKED;
    return snprintf(to, length, "a GPU that is not there"), SUCCESS;
}
CUresult cuDeviceGetAttribute(int* to, int attribute, int) {
    ASKED;
    switch (attribute) {
    case 16: *to = 2; return SUCCESS; // multiprocessors
    case 75: *to = capability; return SUCCESS; // compute capability: major, minor
    case 76: *to = 0; return SUCCESS;
    case 97: *to = MOST_SHARED; return SUCCESS; // of a block, where it is asked for
    default: return INVALID_VALUE;
    }
}

CUresult cuDevicePrimaryCtxRetain(void** to, int device) {
    ASKED;
    if (!started) return NOT_INITIALIZED;
    if (device < 0 || device >= gpus) return INVALID_DEVICE;
    devices[device].retained++;
    counts.live_contexts++;
    *to = &devices[device];
    return SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease_v2(int device) {
    LOCK;
    if (device < 0 || device >= gpus) return INVALID_DEVICE;
    if (!devices[device].retained) return INVALID_CONTEXT;
    devices[device].retained--;
    counts.live_contexts--;
    return refused(__func__);
}
CUresult cuCtxSetCurrent(void* context) {
    ASKED;
    if (context && context != &devices[0] && context != &devices[1]) return INVALID_CONTEXT;
    return current = (Device*)context, SUCCESS;
}

// ---- memory

CUresult cuMemAlloc_v2(u64* to, size_t bytes) {
    ENTER(false);
    return allocate((void**)to, bytes, current);
}
CUresult cuMemFree_v2(u64 address) { LET_GO(false, release(address, current)); }
CUresult cuMemGetInfo_v2(size_t* left, size_t* whole) {
    ENTER(true);
    *whole = limit;
    *left = limit - counts.live_bytes;
    return SUCCESS;
}
CUresult cuMemHostAlloc(void** to, size_t bytes, u32) {
    ENTER(false);
    return allocate(to, bytes, nullptr);
}
CUresult cuMemFreeHost(void* pointer) { LET_GO(false, release((u64)pointer, nullptr)); }

CUresult cuMemcpyDtoH_v2(void* to, u64 from, size_t bytes) {
    ENTER(false);
    if (room(from, current) < (int64_t)bytes) return INVALID_VALUE;
    if (CUresult code = flush(current->null_stream)) return code;
    return copying(current, (u64)to, from, bytes, true, false)();
}
CUresult cuMemcpyHtoDAsync_v2(u64 to, const void* from, size_t bytes, void* handle) {
    ENTER(true);
    STREAM(handle);
    if (room(to, current) < (int64_t)bytes) return INVALID_VALUE;
    PINNED(from);
    return put(*stream, copying(current, to, (u64)from, bytes, false, true));
}
CUresult cuMemcpyDtoHAsync_v2(void* to, u64 from, size_t bytes, void* handle) {
    ENTER(true);
    STREAM(handle);
    if (room(from, current) < (int64_t)bytes) return INVALID_VALUE;
    PINNED(to);
    return put(*stream, copying(current, (u64)to, from, bytes, true, false));
}
CUresult cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t bytes, void* handle) {
    ENTER(true);
    STREAM(handle);
    if (room(to, current) < (int64_t)bytes || room(from, current) < (int64_t)bytes) return INVALID_VALUE;
    return put(*stream, copying(current, to, from, bytes, false, false));
}
CUresult cuMemsetD8Async(u64 to, u8 byte, size_t bytes, void* handle) {
    ENTER(true);
    STREAM(handle);
    Device* const device = current;
    if (room(to, device) < (int64_t)bytes) return INVALID_VALUE;
    const u64 over = number_of(to);
    return put(*stream, [=] {
        if (number_of(to) != over) return failed_kernel(device, "memset", "its destination is not the memory any more that it was put on the stream over");
        if (room(to, device) < (int64_t)bytes) return failed_kernel(device, "memset", "its destination is not there any more");
        memset((void*)to, byte, bytes);
        return (int)SUCCESS;
    });
}

// ---- modules

CUresult cuModuleLoadData(void** to, const void* image) {
    ENTER(false);
    const Elf64_Ehdr* head = (const Elf64_Ehdr*)image;
    if (memcmp(head->e_ident, ELFMAG, SELFMAG) != 0) return INVALID_IMAGE;
    // What was linked ends with its table of sections.
    const size_t bytes = head->e_shoff + (size_t)head->e_shnum * head->e_shentsize;
    // A name of its own: of two files of one name the loader takes the first for both.
    const std::string path = getenv("FAKE_CUDA") + ("/loaded_" + std::to_string(getpid())) + "_" + std::to_string(counts.modules_loaded);
    std::ofstream(path, std::ios::binary).write((const char*)image, bytes);
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) fprintf(stderr, "fake GPU: %s\n", dlerror());
    unlink(path.c_str());
    auto connect = library ? (void (*)(int64_t (*)(u64)))dlsym(library, "fake_connect") : nullptr;
    if (!connect) return INVALID_IMAGE;
    connect(reached);
    Module* module = new Module{current, library, {}};
    modules.insert(module);
    counts.modules_loaded++;
    counts.live_modules++;
    *to = module;
    return SUCCESS;
}
static CUresult unload(void* handle) {
    if (!modules.count(handle)) return INVALID_HANDLE;
    if (((Module*)handle)->device != current) return INVALID_CONTEXT;
    // Of what a real driver does then its manual says nothing.
    for (void* graph : graphs)
        if (((Graph*)graph)->modules.count(handle)) {
            fprintf(stderr, "fake GPU: a module is unloaded under a graph of its kernels\n");
            return INVALID_VALUE;
        }
    modules.erase(handle);
    Module* module = (Module*)handle;
    for (auto& [name, function] : module->functions) functions.erase(function.get());
    dlclose(module->library);
    delete module;
    counts.live_modules--;
    return SUCCESS;
}
CUresult cuModuleUnload(void* handle) { LET_GO(false, unload(handle)); }
CUresult cuModuleGetFunction(void** to, void* handle, const char* name) {
    ENTER(true);
    if (!modules.count(handle)) return INVALID_HANDLE;
    Module* module = (Module*)handle;
    if (module->device != current) return INVALID_CONTEXT;
    auto run = (void (*)(const Launch*))dlsym(module->library, ("fake_run_" + std::string(name)).c_str());
    auto describe = (void (*)(u32*, u32*, u32*, u32*))dlsym(module->library, ("fake_describe_" + std::string(name)).c_str());
    if (!run || !describe) return NOT_FOUND;
    auto& function = module->functions[name];
    if (!function) {
        function.reset(new Function{module, run, 0, 0, std::vector<u32>(256), 0});
        u32 count = 0;
        describe(&function->threads, &function->declared, &count, function->sizes.data());
        function->dynamic = USUAL_SHARED - function->declared;
        function->sizes.resize(count);
        functions.insert(function.get());
    }
    *to = function.get();
    return SUCCESS;
}

CUresult cuFuncSetAttribute(void* handle, int attribute, int value) {
    ENTER(true);
    if (!functions.count(handle)) return INVALID_HANDLE;
    Function* function = (Function*)handle;
    if (function->module->device != current) return INVALID_CONTEXT;
    if (attribute != 8 || value < 0 || value + function->declared > MOST_SHARED) return INVALID_VALUE;
    function->dynamic = value;
    return SUCCESS;
}

CUresult cuLaunchKernel(void* handle, u32 gx, u32 gy, u32 gz, u32 tx, u32 ty, u32 tz, u32 dynamic, void* on, void** parameters, void** extra) {
    ENTER(true);
    STREAM(on);
    if (!functions.count(handle)) return INVALID_HANDLE;
    const Function* function = (const Function*)handle;
    Device* const device = current;
    if (function->module->device != device) return INVALID_CONTEXT;
    if (!gx || gy != 1 || gz != 1 || !tx || ty != 1 || tz != 1 || extra) return INVALID_VALUE;
    if (dynamic > function->dynamic) return INVALID_VALUE;
    counts.granted += dynamic;
    if (tx > function->threads) return LAUNCH_OUT_OF_RESOURCES;
    std::vector<std::vector<u8>> values;
    for (size_t i = 0; i < function->sizes.size(); i++) values.emplace_back((u8*)parameters[i], (u8*)parameters[i] + function->sizes[i]);
    if (stream->captured) stream->captured->modules.insert(function->module);
    return put(*stream, [=] {
        if (!functions.count(handle)) return failed_kernel(device, "launch", "its module was unloaded");
        std::vector<void*> pointers;
        for (const auto& value : values) pointers.push_back((void*)value.data());
        char message[256] = {};
        u64 read = 0;
        const Launch launch = {pointers.data(), nullptr, nullptr, nullptr, gx, tx, 0, 1, 0, dynamic, &read, message};
        running = device;
        function->run(&launch);
        counts.launches++;
        if (faulty-- == 0) return failed_kernel(device, "kernel", "a fault that a test asked for");
        return message[0] ? failed_kernel(device, "kernel", message) : (int)SUCCESS;
    });
}

// ---- streams and graphs

CUresult cuStreamCreate(void** to, u32 flags) {
    ENTER(true);
    // Only those that do not wait for the null stream.
    if (flags != 1) return NOT_SUPPORTED;
    Stream* stream = new Stream{current};
    streams.insert(stream);
    counts.live_streams++;
    *to = stream;
    return SUCCESS;
}
static CUresult destroy_stream(void* handle) {
    if (!streams.count(handle)) return INVALID_HANDLE;
    if (((Stream*)handle)->device != current) return INVALID_CONTEXT;
    flush(*(Stream*)handle);
    streams.erase(handle);
    delete (Stream*)handle;
    counts.live_streams--;
    return SUCCESS;
}
CUresult cuStreamDestroy_v2(void* handle) { LET_GO(false, destroy_stream(handle)); }
CUresult cuStreamSynchronize(void* handle) {
    LOCK;
    STREAM(handle);
    // Of a failure that a test asks for is told when all is done, as of one that sticks.
    if (!stream->captured) flush(*stream);
    CHECK(refused(__func__));
    return may(false);
}
CUresult cuStreamBeginCapture_v2(void* handle, int mode) {
    {
        ENTER(false);
        STREAM(handle);
        if (!handle) return STREAM_CAPTURE_UNSUPPORTED;
        if (mode < GLOBAL || mode > RELAXED) return INVALID_VALUE;
        stream->captured.reset(new Graph{{}, {}, current});
        stream->mode = mode;
        stream->invalid = false;
        capturing = stream;
    }
    if (auto work = std::exchange(meanwhile, nullptr)) work();
    return SUCCESS;
}
CUresult cuStreamEndCapture(void* handle, void** to) {
    LOCK;
    STREAM(handle);
    // It ends, whatever is said of it.
    capturing = nullptr;
    std::unique_ptr<Graph> graph = std::move(stream->captured);
    CHECK(refused(__func__));
    CHECK(may(true));
    if (!graph) return INVALID_VALUE;
    *to = nullptr;
    if (stream->invalid) return STREAM_CAPTURE_INVALIDATED;
    counts.captures++;
    counts.live_graphs++;
    graphs.insert(*to = graph.release());
    return SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(void** to, void* handle, unsigned long long) {
    ENTER(true);
    if (!graphs.count(handle)) return INVALID_HANDLE;
    Graph* instance = new Graph(*(Graph*)handle);
    counts.live_graphs++;
    graphs.insert(*to = instance);
    return SUCCESS;
}
CUresult cuGraphLaunch(void* handle, void* on) {
    ENTER(true);
    STREAM(on);
    if (!graphs.count(handle)) return INVALID_HANDLE;
    if (((Graph*)handle)->device != current) return INVALID_CONTEXT;
    counts.replays++;
    for (const Work& work : ((Graph*)handle)->works) put(*stream, work);
    return SUCCESS;
}
static CUresult destroy_graph(void* handle) {
    if (!graphs.erase(handle)) return INVALID_HANDLE;
    delete (Graph*)handle;
    counts.live_graphs--;
    return SUCCESS;
}
CUresult cuGraphDestroy(void* handle) { LET_GO(true, destroy_graph(handle)); }
CUresult cuGraphExecDestroy(void* handle) { LET_GO(true, destroy_graph(handle)); }
}
