// An NVRTC without a GPU, for tests: `libnvrtc.so.13`, whose machine code is a library of the system's C++ compiler. The names of the
// machine, which a text begins with, are exchanged for those of the shim; every kernel gets a function by which `cuda.cpp` runs it.
// FAKE_CUDA names the folder in which `fake.rs` put the preludes.

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <unistd.h>

#ifndef FAKE_MAJOR
#define FAKE_MAJOR 13
#endif

enum { SUCCESS = 0, INVALID_OPTION = 5, COMPILATION = 6 };

struct Program {
    std::string text, code, log;
};

static const std::set<std::string> OPTIONS = {"--std=c++17", "--fmad=false", "--ptxas-options=-v", "--diag-suppress=177", "--gpu-architecture=sm_90a", "--generate-line-info"};
static std::atomic<unsigned long long> compilations{0};
// What a test asks for: codes of functions, and bytes of machine code at most.
static std::map<std::string, int> codes;
static size_t most = ~(size_t)0;

static std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream whole;
    whole << file.rdbuf();
    return whole.str();
}

// Whether threads of a kernel may wait for one another, by what is in its text. One that does and has nothing of this says so when it is run.
static bool waits(const std::string& kernel) {
    for (const char* word : {"gr_sync(", "gr_warp_sync(", "gr_of_", "gr_arg_of_", "gr_shuffle", "gr_mma_", "gr_read_turned(", "gr_copy"})
        if (kernel.find(word) != std::string::npos) return true;
    return false;
}

// Bytes of shared memory that a kernel declares, as its text has them.
static std::string declared(const std::string& kernel) {
    const std::string mark = "GR_SHARED(shared, ";
    const size_t at = kernel.find(mark);
    return at == std::string::npos ? "0" : kernel.substr(at + mark.size(), kernel.find(')', at) - at - mark.size());
}

// The functions by which kernels are found and run.
static std::string entries(const std::string& text) {
    std::string all;
    const std::string mark = "GR_KERNEL(";
    for (size_t at = text.find(mark), next; at != std::string::npos; at = next) {
        next = text.find(mark, at + 1);
        const size_t comma = text.find(',', at), end = text.find(')', at);
        const std::string name = text.substr(at + mark.size(), comma - at - mark.size()), threads = text.substr(comma + 1, end - comma - 1);
        const std::string kernel = text.substr(at, next == std::string::npos ? next : next - at);
        all += "FAKE_ENTRY(" + name + ", " + threads + ", " + (waits(kernel) ? "1" : "0") + ", " + declared(kernel) + ")\n";
    }
    return all;
}

template <class Bytes>
static int give(const Bytes& from, char* to) {
    memcpy(to, from.c_str(), from.size() + 1);
    return SUCCESS;
}

static size_t given(const Program* program) { return program->code.size() < most ? program->code.size() : most; }

#define ASKED \
    if (codes.count(__func__)) return codes[__func__]

extern "C" {
unsigned long long fake_compilations() { return compilations; }
// A function gives this code from now on and does nothing; it works again, with 0.
void fake_nvrtc_fail(const char* name, int code) {
    if (code) codes[name] = code;
    else codes.erase(name);
}
// No more than so many bytes of machine code are given.
void fake_nvrtc_cut(size_t bytes) { most = bytes; }

int nvrtcVersion(int* major, int* minor) { return *major = FAKE_MAJOR, *minor = 0, SUCCESS; }
int nvrtcCreateProgram(Program** to, const char* text, const char*, int, const char* const*, const char* const*) {
    *to = new Program{text, "", ""};
    return SUCCESS;
}
int nvrtcDestroyProgram(Program** program) {
    delete *program;
    *program = nullptr;
    return SUCCESS;
}
int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    const std::string folder = getenv("FAKE_CUDA"), prelude = read(folder + "/device.h");
    for (int i = 0; i < count; i++) {
        const std::string option = options[i];
        if (!OPTIONS.count(option)) return program->log = "unrecognized option " + option, INVALID_OPTION;
    }
    if (program->text.compare(0, prelude.size(), prelude) != 0) return program->log = "the text does not begin with the prelude", COMPILATION;
    const std::string kernels = program->text.substr(prelude.size());
    const std::string base = folder + "/kernels_" + std::to_string(getpid()) + "_" + std::to_string(compilations++);
    std::ofstream(base + ".cpp") << kernels << entries(kernels);
    const std::string command = read(folder + "/command") + " -shared -include " + folder + "/prelude.h " + base + ".cpp -o " + base + ".so 2> " + base + ".log";
    const int code = system(command.c_str());
    program->log = read(base + ".log");
    program->code = code ? "" : read(base + ".so");
    for (const char* end : {".cpp", ".so", ".log"}) unlink((base + end).c_str());
    return code ? COMPILATION : SUCCESS;
}
int nvrtcGetProgramLogSize(Program* program, size_t* to) {
    ASKED;
    return *to = program->log.size() + 1, SUCCESS;
}
int nvrtcGetProgramLog(Program* program, char* to) {
    ASKED;
    return give(program->log, to);
}
int nvrtcGetCUBINSize(Program* program, size_t* to) {
    ASKED;
    return *to = given(program), SUCCESS;
}
int nvrtcGetCUBIN(Program* program, char* to) {
    ASKED;
    return memcpy(to, program->code.data(), given(program)), SUCCESS;
}
int nvrtcGetPTXSize(Program* program, size_t* to) {
    ASKED;
    return *to = program->text.size() + 1, SUCCESS;
}
int nvrtcGetPTX(Program* program, char* to) {
    ASKED;
    return give(program->text, to);
}
}
