// Element types as they are stored and as they are computed with, and conversions.

struct gr_f16 { u16 bits; };
struct gr_bf16 { u16 bits; };
struct gr_bool { u8 byte; };

GR_DEVICE float gr_bf16_to_float(u16 bits) { return gr_float((u32)bits << 16); }

// To nearest, ties to even; NaN stays NaN.
GR_DEVICE u16 gr_bf16_of_float(float x) {
    u32 bits = gr_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)0x7fc0;
    return (u16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

GR_DEVICE float gr_round_f16(float x) { return gr_half_to_float(gr_half_of_float(x)); }
GR_DEVICE float gr_round_bf16(float x) { return gr_bf16_to_float(gr_bf16_of_float(x)); }

// The unsigned type in which an integer's arithmetic wraps, and what it can hold.
template <class T> struct gr_int {};
#define GR_INTEGER(T, unsigned_type, signed_type, low, high) \
    template <> struct gr_int<T> { \
        typedef unsigned_type wide; \
        enum { is_signed = signed_type }; \
        static GR_DEVICE_MEMBER T least() { return (T)(low); } \
        static GR_DEVICE_MEMBER T greatest() { return (T)(high); } \
    };
GR_INTEGER(i64, u64, 1, 1ull << 63, ~0ull >> 1)
GR_INTEGER(i32, u32, 1, 1u << 31, ~0u >> 1)
GR_INTEGER(u32, u32, 0, 0, ~0u)
GR_INTEGER(i16, u32, 1, -32768, 32767)
GR_INTEGER(i8, u32, 1, -128, 127)
GR_INTEGER(u16, u32, 0, 0, 65535)
GR_INTEGER(u8, u32, 0, 0, 255)

// Truncated and saturated; NaN gives 0.
template <class T, class F>
GR_DEVICE T gr_saturated(F x) {
    if (x != x) return (T)0;
    // Rounded up where the type's greatest has no float: nothing below it is too great.
    const F low = (F)gr_int<T>::least(), high = (F)gr_int<T>::greatest();
    if (x <= low) return gr_int<T>::least();
    if (x >= high) return gr_int<T>::greatest();
    return (T)x;
}

template <class To> struct gr_to {
    template <class From> static GR_DEVICE_MEMBER To of(From x) { return (To)x; }
    static GR_DEVICE_MEMBER To of(float x) { return gr_saturated<To>(x); }
    static GR_DEVICE_MEMBER To of(double x) { return gr_saturated<To>(x); }
};
template <> struct gr_to<float> {
    template <class From> static GR_DEVICE_MEMBER float of(From x) { return (float)x; }
};
template <> struct gr_to<double> {
    template <class From> static GR_DEVICE_MEMBER double of(From x) { return (double)x; }
};
template <> struct gr_to<bool> {
    template <class From> static GR_DEVICE_MEMBER bool of(From x) { return x != (From)0; }
};

template <class To, class From>
GR_DEVICE To gr_cast(From x) { return gr_to<To>::of(x); }

// ---- memory

GR_DEVICE double gr_get(double x) { return x; }
GR_DEVICE float gr_get(float x) { return x; }
GR_DEVICE float gr_get(gr_f16 x) { return gr_half_to_float(x.bits); }
GR_DEVICE float gr_get(gr_bf16 x) { return gr_bf16_to_float(x.bits); }
GR_DEVICE i64 gr_get(i64 x) { return x; }
GR_DEVICE i32 gr_get(i32 x) { return x; }
GR_DEVICE u32 gr_get(u32 x) { return x; }
GR_DEVICE i16 gr_get(i16 x) { return x; }
GR_DEVICE i8 gr_get(i8 x) { return x; }
GR_DEVICE u16 gr_get(u16 x) { return x; }
GR_DEVICE u8 gr_get(u8 x) { return x; }
GR_DEVICE bool gr_get(gr_bool x) { return x.byte != 0; }

template <class Stored> struct gr_as {
    template <class T> static GR_DEVICE_MEMBER Stored put(T x) { return gr_cast<Stored>(x); }
};
template <> struct gr_as<gr_f16> {
    template <class T> static GR_DEVICE_MEMBER gr_f16 put(T x) { return gr_f16{gr_half_of_float(gr_cast<float>(x))}; }
};
template <> struct gr_as<gr_bf16> {
    template <class T> static GR_DEVICE_MEMBER gr_bf16 put(T x) { return gr_bf16{gr_bf16_of_float(gr_cast<float>(x))}; }
};
template <> struct gr_as<gr_bool> {
    template <class T> static GR_DEVICE_MEMBER gr_bool put(T x) { return gr_bool{(u8)gr_cast<bool>(x)}; }
};

template <class Stored, class T>
GR_DEVICE Stored gr_put(T x) { return gr_as<Stored>::put(x); }

// Two floats, each a sum of two 16-bit floats: the pair of the high ones and the pair of what they leave.
template <class Stored>
GR_DEVICE void gr_split(float x, float y, u32* high, u32* low) {
    const Stored x_high = gr_put<Stored>(x), y_high = gr_put<Stored>(y);
    const float x_wide = gr_get(x_high), y_wide = gr_get(y_high);
    // Infinity leaves nothing.
    const Stored x_low = gr_put<Stored>(x == x_wide ? 0.0f : x - x_wide), y_low = gr_put<Stored>(y == y_wide ? 0.0f : y - y_wide);
    *high = x_high.bits | (u32)y_high.bits << 16;
    *low = x_low.bits | (u32)y_low.bits << 16;
}

// Some neighbours, read and written at once where they are aligned to their size.
template <class T, i32 count>
struct gr_pack {
    union {
        T at[count];
        gr_quad quad;
        u64 pair;
        u32 word;
    };
};

// Of shared memory, where it is known that they are. What is of no such size is read and written one by one.
template <class T, i32 count>
GR_DEVICE gr_pack<T, count> gr_read_aligned(const T* from) {
    const i32 bytes = count * (i32)sizeof(T);
    gr_pack<T, count> pack;
    if (bytes == 16) pack.quad = gr_read16(from);
    else if (bytes == 8) pack.pair = *(const u64*)gr_aligned(from, 8);
    else if (bytes == 4) pack.word = *(const u32*)gr_aligned(from, 4);
    else {
        GR_UNROLL
        for (i32 i = 0; i < count; i++) pack.at[i] = from[i];
    }
    return pack;
}

template <class T, i32 count>
GR_DEVICE void gr_write_aligned(T* to, gr_pack<T, count> pack) {
    const i32 bytes = count * (i32)sizeof(T);
    if (bytes == 16) gr_write16(to, pack.quad);
    else if (bytes == 8) *(u64*)gr_aligned(to, 8) = pack.pair;
    else if (bytes == 4) *(u32*)gr_aligned(to, 4) = pack.word;
    else {
        GR_UNROLL
        for (i32 i = 0; i < count; i++) to[i] = pack.at[i];
    }
}

// Whether that is so of an argument's, which may begin anywhere.
template <class T, i32 count>
GR_DEVICE bool gr_is_aligned(const T* at) {
    const i32 bytes = count * (i32)sizeof(T);
    return (bytes == 16 || bytes == 8 || bytes == 4) && gr_address(at) % bytes == 0;
}

template <class T, i32 count>
GR_DEVICE gr_pack<T, count> gr_read(const T* from) {
    if (gr_is_aligned<T, count>(from)) return gr_read_aligned<T, count>(from);
    gr_pack<T, count> pack;
    GR_UNROLL
    for (i32 i = 0; i < count; i++) pack.at[i] = from[i];
    return pack;
}

template <class T, i32 count>
GR_DEVICE void gr_write(T* to, gr_pack<T, count> pack) {
    if (gr_is_aligned<T, count>(to)) return gr_write_aligned<T, count>(to, pack);
    GR_UNROLL
    for (i32 i = 0; i < count; i++) to[i] = pack.at[i];
}

// The first of them alone, where there are no more.
template <class T, i32 count>
GR_DEVICE gr_pack<T, count> gr_read_some(const T* from, i32 left) {
    if (left == count) return gr_read<T, count>(from);
    gr_pack<T, count> pack;
    GR_UNROLL
    for (i32 i = 0; i < count; i++)
        if (i < left) pack.at[i] = from[i];
    return pack;
}

template <class T, i32 count>
GR_DEVICE void gr_write_some(T* to, gr_pack<T, count> pack, i32 left) {
    if (left == count) return gr_write<T, count>(to, pack);
    GR_UNROLL
    for (i32 i = 0; i < count; i++)
        if (i < left) to[i] = pack.at[i];
}

// Two neighbours of 16 bits.
template <class T>
GR_DEVICE u32 gr_pair_of(const T* at) { return *(const u32*)gr_aligned(at, 4); }

// ---- bits

GR_DEVICE float gr_bits_f32(u32 x) { return gr_float(x); }
GR_DEVICE float gr_bits_f32(i32 x) { return gr_float((u32)x); }
GR_DEVICE float gr_bits_f32(float x) { return x; }
GR_DEVICE u32 gr_bits_u32(float x) { return gr_bits(x); }
GR_DEVICE u32 gr_bits_u32(i32 x) { return (u32)x; }
GR_DEVICE u32 gr_bits_u32(u32 x) { return x; }
GR_DEVICE i32 gr_bits_i32(float x) { return (i32)gr_bits(x); }
GR_DEVICE i32 gr_bits_i32(u32 x) { return (i32)x; }
GR_DEVICE i32 gr_bits_i32(i32 x) { return x; }
GR_DEVICE double gr_bits_f64(i64 x) { return gr_double((u64)x); }
GR_DEVICE double gr_bits_f64(double x) { return x; }
GR_DEVICE i64 gr_bits_i64(double x) { return (i64)gr_bits(x); }
GR_DEVICE i64 gr_bits_i64(i64 x) { return x; }

// ---- indices

// Long ones that are both below 2^32 divide at a quarter of the price.
template <class I> GR_DEVICE I gr_quotient(I x, I y) {
    if (sizeof(I) == 8 && (u64)(x | y) >> 32 == 0) return (I)((u32)x / (u32)y);
    return x / y;
}
template <class I> GR_DEVICE I gr_remainder(I x, I y) { return x - gr_quotient<I>(x, y) * y; }
template <class I> GR_DEVICE I gr_floor_div(I x, I y) {
    I quotient = gr_quotient<I>(x, y);
    return quotient - (x - quotient * y < 0 ? 1 : 0);
}
template <class I> GR_DEVICE I gr_modulo(I x, I y) { return x - gr_floor_div<I>(x, y) * y; }
template <class I> GR_DEVICE I gr_lesser(I x, I y) { return x < y ? x : y; }
template <class I> GR_DEVICE I gr_greater(I x, I y) { return x > y ? x : y; }
// Positions that a body computes are long.
GR_DEVICE i64 gr_clamped(i64 x, i64 size) { return gr_greater<i64>(gr_lesser<i64>(x, size - 1), 0); }

// ---- failures

// The least of (launch, trap) is kept, whatever the order in which threads come.
GR_DEVICE void gr_check(GR_STATUS status, u32 launch, u32 trap, bool ok) {
    if (!ok) gr_least(status, (u64)launch << 32 | trap);
}

GR_DEVICE bool gr_failed(GR_STATUS status) { return gr_status(status) != ~0ull; }
