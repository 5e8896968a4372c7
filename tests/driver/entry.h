// After the shim's prelude: how `cuda.cpp` runs a kernel, whose parameters are found by their types.

#include <utility>

static i64 (*fake_room)(u64);
extern "C" void fake_connect(i64 (*room)(u64)) { fake_room = room; }

template <class T>
struct fake_parameter {
    static T at(const void* value) {
        T x;
        memcpy(&x, value, sizeof(T));
        return x;
    }
};
// As much as was allocated may be reached.
template <class T>
struct fake_parameter<gr_pointer<T>> {
    static gr_pointer<T> at(const void* value) {
        const u64 address = fake_parameter<u64>::at(value);
        return gr_pointer<T>{(T*)address, fake_room(address) / (i64)sizeof(T)};
    }
};
template <class T>
struct fake_parameter<T*> {
    static T* at(const void* value) {
        const u64 address = fake_parameter<u64>::at(value);
        if (fake_room(address) < (i64)sizeof(T)) gr_report("a pointer to %lld bytes of %lld", fake_room(address), sizeof(T));
        return (T*)address;
    }
};
template <class T> struct fake_size { enum { bytes = sizeof(T) }; };
template <class T> struct fake_size<gr_pointer<T>> { enum { bytes = 8 }; };

template <class... A, size_t... I>
static void fake_call(void (*kernel)(A...), void* const* parameters, std::index_sequence<I...>) {
    kernel(fake_parameter<A>::at(parameters[I])...);
}
template <class... A>
static void fake_call(void (*kernel)(A...), void* const* parameters) {
    fake_call(kernel, parameters, std::index_sequence_for<A...>());
}
template <class... A>
static void fake_describe(void (*)(A...), u32* count, u32* sizes) {
    const u32 all[] = {(u32)fake_size<A>::bytes...};
    *count = sizeof...(A);
    memcpy(sizes, all, sizeof(all));
}

#define FAKE_ENTRY(name, bound, waits, shared) \
    extern "C" void fake_run_##name(const gr_launch* launch) { \
        gr_launch own = *launch; \
        own.barriers = waits; \
        gr_run(&own, [](const gr_launch* l) { fake_call(name, l->pointers); }); \
    } \
    extern "C" void fake_describe_##name(u32* threads, u32* declared, u32* count, u32* sizes) { \
        *threads = bound; \
        *declared = shared; \
        fake_describe(name, count, sizes); \
    }
