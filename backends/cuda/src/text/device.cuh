// What the machine gives: threads, barriers, shared memory, asynchronous copies, tensor instructions. `shim.h` gives the same
// names to a C++ compiler. Nothing below this file names CUDA.

typedef long long i64;
typedef unsigned long long u64;
typedef int i32;
typedef short i16;
typedef signed char i8;
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

#define GR_DEVICE static __device__ __forceinline__
#define GR_DEVICE_MEMBER __device__ __forceinline__
#define GR_KERNEL(name, threads) extern "C" __global__ void __launch_bounds__(threads, 1) name
#define GR_SHARED(name, bytes) __shared__ __align__(16) unsigned char name[bytes]
#define GR_DYNAMIC(name) extern __shared__ __align__(16) unsigned char name[]
#define GR_LOCAL(T) T*
#define GR_IN(T) const T* __restrict__
#define GR_OUT(T) T* __restrict__
// Written by one thread of a block and read by another: of a pointer with `__restrict__` the compiler believes that no barrier changes what it
// leads to, and moves loads and stores across.
#define GR_EXCHANGE(T) T*
#define GR_STATUS u64*
#define GR_UNROLL _Pragma("unroll")
#define GR_ROLLED _Pragma("unroll 1")

GR_DEVICE i32 gr_thread() { return (i32)threadIdx.x; }
GR_DEVICE i64 gr_block() { return (i64)blockIdx.x; }
GR_DEVICE i64 gr_blocks() { return (i64)gridDim.x; }

// Bytes of shared memory that the launch gives beside those that the text declares.
GR_DEVICE i32 gr_dynamic_bytes() {
    u32 bytes;
    asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(bytes));
    return (i32)bytes;
}

#define gr_sync() __syncthreads()
#define gr_warp_sync() __syncwarp()

// Of the lane whose number differs in these bits.
GR_DEVICE u32 gr_shuffle_bits(u32 x, i32 lanes) { return __shfl_xor_sync(0xffffffffu, x, lanes); }

GR_DEVICE u64 gr_least(u64* status, u64 x) { return atomicMin(status, x); }
GR_DEVICE u64 gr_status(const u64* status) { return *(const volatile u64*)status; }

GR_DEVICE float gr_fma(float x, float y, float z) { return __fmaf_rn(x, y, z); }
GR_DEVICE double gr_fma(double x, double y, double z) { return __fma_rn(x, y, z); }
GR_DEVICE u32 gr_high(u32 x, u32 y) { return __umulhi(x, y); }
GR_DEVICE u32 gr_bits(float x) { return __float_as_uint(x); }
GR_DEVICE u64 gr_bits(double x) { return (u64)__double_as_longlong(x); }
GR_DEVICE float gr_float(u32 x) { return __uint_as_float(x); }
GR_DEVICE double gr_double(u64 x) { return __longlong_as_double((i64)x); }

GR_DEVICE float gr_half_to_float(u16 bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

GR_DEVICE u16 gr_half_of_float(float x) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

struct __align__(16) gr_quad { u32 word[4]; };

GR_DEVICE gr_quad gr_read16(const void* from) { return *(const gr_quad*)from; }
GR_DEVICE void gr_write16(void* to, gr_quad x) { *(gr_quad*)to = x; }
GR_DEVICE u64 gr_address(const void* pointer) { return (u64)pointer; }
// The shim looks whether it is.
#define gr_aligned(at, bytes) (at)

// Part of shared memory, of global memory, and `count` elements of an argument.
template <class T>
GR_DEVICE T* gr_local(u8* shared, i32 offset, i32 count) { return (T*)(shared + offset); }
template <class T>
GR_DEVICE T& gr_place(u8* memory, i64 offset) { return *(T*)(memory + offset); }
template <class T>
GR_DEVICE T* gr_at(T* argument, i64 offset, i32 count) { return argument + offset; }

// 16 bytes from global to shared memory, there after the wait for their group and a barrier.
GR_DEVICE void gr_copy16(void* to, const void* from) {
    u32 shared = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from) : "memory");
}

GR_DEVICE void gr_copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until at most `pending` of this thread's groups are under way.
template <int pending>
GR_DEVICE void gr_copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory"); }

// Fragments of b from 16 rows of eight neighbours in shared memory, of which the first 16 lanes name one each: turned, as `gr_mma` takes
// them.
template <class T>
GR_DEVICE void gr_read_turned(u32* b, const T* row) {
    u32 shared = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(b[0]), "=r"(b[1]) : "r"(shared) : "memory");
}

// d += a b over 16 x 8 x 16 by a warp; fragments as PTX lays them out.
GR_DEVICE void gr_mma_bf16(float* d, const u32* a, const u32* b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

GR_DEVICE void gr_mma_f16(float* d, const u32* a, const u32* b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
