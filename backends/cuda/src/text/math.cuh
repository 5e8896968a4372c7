// The table of scalar functions. Expansions for `float` are those of the CPU backend, step by step (`backends/cpu/src/expand`),
// with its bounds in units in the last place: `exp log` 1, `sin cos expm1 log1p erf rsqrt` 1.5, `sigmoid pow` 2, `tanh` 2.5.
// Functions of `double` are the machine's: CUDA's library states 2 at most, for `sin cos erf pow`.

GR_DEVICE float gr_floor(float x) { return floorf(x); }
GR_DEVICE double gr_floor(double x) { return floor(x); }
GR_DEVICE float gr_ceil(float x) { return ceilf(x); }
GR_DEVICE double gr_ceil(double x) { return ceil(x); }
GR_DEVICE float gr_trunc(float x) { return truncf(x); }
GR_DEVICE double gr_trunc(double x) { return trunc(x); }
GR_DEVICE float gr_round(float x) { return rintf(x); }
GR_DEVICE double gr_round(double x) { return rint(x); }
GR_DEVICE float gr_sqrt(float x) { return sqrtf(x); }
GR_DEVICE double gr_sqrt(double x) { return sqrt(x); }
GR_DEVICE float gr_rsqrt(float x) { return 1.0f / sqrtf(x); }
GR_DEVICE double gr_rsqrt(double x) { return 1.0 / sqrt(x); }
GR_DEVICE bool gr_is_nan(float x) { return x != x; }
GR_DEVICE bool gr_is_nan(double x) { return x != x; }

template <class T> GR_DEVICE T gr_infinity() { return (T)gr_float(0x7f800000u); }
template <class T> GR_DEVICE T gr_nan() { return (T)gr_float(0x7fc00000u); }
GR_DEVICE bool gr_is_finite(float x) { return (gr_bits(x) & 0x7f800000u) != 0x7f800000u; }
GR_DEVICE bool gr_is_finite(double x) { return (gr_bits(x) >> 52 & 0x7ffull) != 0x7ffull; }

// ---- arithmetic

template <class T> GR_DEVICE T gr_add(T x, T y) { return (T)((typename gr_int<T>::wide)x + (typename gr_int<T>::wide)y); }
template <class T> GR_DEVICE T gr_sub(T x, T y) { return (T)((typename gr_int<T>::wide)x - (typename gr_int<T>::wide)y); }
template <class T> GR_DEVICE T gr_mul(T x, T y) { return (T)((typename gr_int<T>::wide)x * (typename gr_int<T>::wide)y); }
template <class T> GR_DEVICE T gr_neg(T x) { return gr_sub((T)0, x); }
// By zero gives 0: a check tells the user. The least by -1 wraps.
template <class T> GR_DEVICE T gr_div(T x, T y) {
    if (y == 0) return (T)0;
    if (gr_int<T>::is_signed && y == (T)-1) return gr_neg(x);
    return (T)(x / y);
}
template <class T> GR_DEVICE T gr_rem(T x, T y) {
    if (y == 0 || (gr_int<T>::is_signed && y == (T)-1)) return (T)0;
    return (T)(x % y);
}
template <class T> GR_DEVICE T gr_abs(T x) { return gr_int<T>::is_signed && x < (T)0 ? gr_neg(x) : x; }
template <class T> GR_DEVICE T gr_sign(T x) { return x > (T)0 ? (T)1 : x < (T)0 ? (T)-1 : (T)0; }
template <class T> GR_DEVICE T gr_relu(T x) { return x > (T)0 ? x : (T)0; }
template <class T> GR_DEVICE T gr_max(T x, T y) { return x > y ? x : y; }
template <class T> GR_DEVICE T gr_min(T x, T y) { return x < y ? x : y; }
template <class T> GR_DEVICE T gr_not(T x) { return (T)~x; }
template <class T> GR_DEVICE T gr_and(T x, T y) { return (T)(x & y); }
template <class T> GR_DEVICE T gr_or(T x, T y) { return (T)(x | y); }
template <class T> GR_DEVICE T gr_xor(T x, T y) { return (T)(x ^ y); }
template <class T> GR_DEVICE T gr_shl(T x, T y) {
    typedef typename gr_int<T>::wide wide;
    return (wide)y < (wide)(8 * sizeof(T)) ? (T)((wide)x << (wide)y) : (T)0;
}
template <class T> GR_DEVICE T gr_shr(T x, T y) {
    typedef typename gr_int<T>::wide wide;
    const wide width = 8 * sizeof(T);
    if ((wide)y < width) return (T)(x >> (wide)y);
    return x < (T)0 ? (T)-1 : (T)0;
}

GR_DEVICE bool gr_not(bool x) { return !x; }
GR_DEVICE bool gr_and(bool x, bool y) { return x && y; }
GR_DEVICE bool gr_or(bool x, bool y) { return x || y; }
GR_DEVICE bool gr_xor(bool x, bool y) { return x != y; }
GR_DEVICE bool gr_max(bool x, bool y) { return x || y; }
GR_DEVICE bool gr_min(bool x, bool y) { return x && y; }

// NaN of either goes through `max` and `min`; comparisons with it fail.
#define GR_FLOAT(T) \
    GR_DEVICE T gr_add(T x, T y) { return x + y; } \
    GR_DEVICE T gr_sub(T x, T y) { return x - y; } \
    GR_DEVICE T gr_mul(T x, T y) { return x * y; } \
    GR_DEVICE T gr_div(T x, T y) { return x / y; } \
    GR_DEVICE T gr_neg(T x) { return -x; } \
    GR_DEVICE T gr_sign(T x) { return x != x ? x : x > (T)0 ? (T)1 : x < (T)0 ? (T)-1 : (T)0; } \
    GR_DEVICE T gr_relu(T x) { return (T)0 > x ? (T)0 : x; } \
    GR_DEVICE T gr_max(T x, T y) { return x > y || x != x ? x : y; } \
    GR_DEVICE T gr_min(T x, T y) { return x < y || x != x ? x : y; }
GR_FLOAT(float)
GR_FLOAT(double)

GR_DEVICE float gr_abs(float x) { return fabsf(x); }
GR_DEVICE double gr_abs(double x) { return fabs(x); }
GR_DEVICE float gr_rem(float x, float y) { return fmodf(x, y); }
GR_DEVICE double gr_rem(double x, double y) { return fmod(x, y); }

template <class T> GR_DEVICE bool gr_eq(T x, T y) { return x == y; }
template <class T> GR_DEVICE bool gr_ne(T x, T y) { return x != y; }
template <class T> GR_DEVICE bool gr_lt(T x, T y) { return x < y; }
template <class T> GR_DEVICE bool gr_le(T x, T y) { return x <= y; }
template <class T> GR_DEVICE bool gr_gt(T x, T y) { return x > y; }
template <class T> GR_DEVICE bool gr_ge(T x, T y) { return x >= y; }
template <class T> GR_DEVICE T gr_select(bool condition, T x, T y) { return condition ? x : y; }

// ---- the exponential and what is made of it

GR_DEVICE float gr_copysign(float magnitude, float sign) { return gr_float(gr_bits(magnitude) | (gr_bits(sign) & 0x80000000u)); }
// NaN stays NaN.
GR_DEVICE float gr_limited(float x, float low, float high) {
    x = low > x ? low : x;
    return high < x ? high : x;
}

// x = n log(2) + r.
struct gr_exp_parts {
    float n, minus_one; // minus_one: e^r - 1
    i32 exponent;
};

GR_DEVICE gr_exp_parts gr_exp_reduce(float x) {
    const float magic = 12582912.0f; // 1.5 * 2^23: the nearest integer is in the low bits
    float shifted = gr_fma(x, 1.44269504088896340736f, magic);
    gr_exp_parts parts;
    parts.n = shifted - magic;
    parts.exponent = (i32)(gr_bits(shifted) - gr_bits(magic));
    float r = gr_fma(parts.n, -0.6933594f, x);
    r = gr_fma(parts.n, 0.00021219444f, r);
    float tail = 1.3926176e-03f;
    tail = gr_fma(tail, r, 8.363173e-03f);
    tail = gr_fma(tail, r, 4.1666556e-02f);
    tail = gr_fma(tail, r, 1.6666578e-01f);
    tail = gr_fma(tail, r, 0.5f);
    parts.minus_one = gr_fma(tail, r * r, r);
    return parts;
}

GR_DEVICE float gr_power_of_two(i32 n) { return gr_float((u32)(n + 127) << 23); }

// The power of two is applied in two steps, so that the result may be denormal.
GR_DEVICE float gr_exp(float x) {
    gr_exp_parts parts = gr_exp_reduce(gr_limited(x, -104.0f, 89.0f));
    i32 first = parts.exponent >> 1;
    float e = (parts.minus_one + 1.0f) * gr_power_of_two(first);
    return e * gr_power_of_two(parts.exponent - first);
}

// 2^n ((e^r - 1) + (1 - 2^-n)), where nothing is lost near 0.
GR_DEVICE float gr_expm1(float x) {
    gr_exp_parts parts = gr_exp_reduce(gr_limited(x, -30.0f, 89.0f));
    i32 negated = -parts.exponent;
    float rest = 1.0f - gr_power_of_two(negated > -126 ? negated : -126);
    float result = (parts.minus_one + rest) * gr_power_of_two(parts.exponent - 1) * 2.0f;
    return parts.n == 0.0f ? parts.minus_one : result;
}

// By e^-|x|, so that neither side overflows.
GR_DEVICE float gr_sigmoid(float x) {
    float e = gr_exp(-fabsf(x));
    return (x >= 0.0f ? 1.0f : e) / (e + 1.0f);
}

GR_DEVICE float gr_tanh(float x) {
    float limited = gr_limited(fabsf(x), 0.0f, 10.0f);
    float t = gr_expm1(limited + limited);
    return gr_copysign(t / (t + 2.0f), x);
}

// ---- logarithms

// x = 2^e (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2).
GR_DEVICE float gr_log_split(float x, float* f) {
    i32 bits = (i32)gr_bits(x);
    i32 exponent = (i32)((u32)bits - 0x3f3504f3u) >> 23;
    *f = gr_float((u32)bits - ((u32)exponent << 23)) - 1.0f;
    return (float)exponent;
}

// e log(2) + log(1 + f), the small parts first.
GR_DEVICE float gr_log_of(float e, float f) {
    float square = f * f;
    float tail = 6.971612e-02f;
    tail = gr_fma(tail, f, -1.1479734e-01f);
    tail = gr_fma(tail, f, 1.168542e-01f);
    tail = gr_fma(tail, f, -1.2425687e-01f);
    tail = gr_fma(tail, f, 1.4249058e-01f);
    tail = gr_fma(tail, f, -1.6667803e-01f);
    tail = gr_fma(tail, f, 2.0000716e-01f);
    tail = gr_fma(tail, f, -2.4999997e-01f);
    tail = gr_fma(tail, f, 3.333333e-01f);
    float sum = gr_fma(tail, square * f, e * -0.00021219444f);
    sum = gr_fma(square, -0.5f, sum);
    sum = f + sum;
    return gr_fma(e, 0.6933594f, sum);
}

// What the formula does not give: 0, infinity, negative numbers and NaN.
GR_DEVICE float gr_log_specials(float x, float result) {
    result = x < gr_float(0x7f800000u) ? result : x;
    result = x == 0.0f ? gr_float(0xff800000u) : result;
    return x < 0.0f ? gr_float(0x7fc00000u) : result;
}

GR_DEVICE float gr_log(float x) {
    bool denormal = x < 1.17549435e-38f;
    float f, e = gr_log_split(denormal ? x * 8388608.0f : x, &f);
    return gr_log_specials(x, gr_log_of(e + (denormal ? -23.0f : 0.0f), f));
}

// log(u) + (x - (u - 1)) / u with u = 1 + x as it was rounded.
GR_DEVICE float gr_log1p(float x) {
    float u = x + 1.0f;
    float lost = x > 1.0f ? 1.0f - (u - x) : x - (u - 1.0f);
    float f, e = gr_log_split(u, &f);
    float result = gr_log_specials(u, gr_log_of(e, f) + lost / u);
    return fabsf(x) < 1e-7f ? x : result;
}

// ---- sine and cosine

// The sine of x plus some right angles; the argument is reduced in double, and huge ones are computed there.
GR_DEVICE float gr_sine_of(float x, i32 quarters, double huge) {
    double quadrant = rint((double)x * 0.63661977236758134308);
    double wide = gr_fma(quadrant, -1.5707963267341256, (double)x);
    float r = (float)gr_fma(quadrant, -6.077100506506192e-11, wide);
    i32 number = (i32)(u32)gr_bits(quadrant + 6755399441055744.0) + quarters;
    float square = r * r;
    float sine = 2.7249314e-06f;
    sine = gr_fma(sine, square, -1.9840083e-04f);
    sine = gr_fma(sine, square, 8.333332e-03f);
    sine = gr_fma(sine, square, -1.6666667e-01f);
    sine = gr_fma(sine, square * r, r);
    float cosine = -2.730045e-07f;
    cosine = gr_fma(cosine, square, 2.4800596e-05f);
    cosine = gr_fma(cosine, square, -1.3888888e-03f);
    cosine = gr_fma(cosine, square, 4.1666668e-02f);
    // What rounding 1 - h lost is added back.
    float h = square * 0.5f, near = 1.0f - h;
    cosine = near + gr_fma(cosine, square * square, 1.0f - near - h);
    float value = number & 1 ? cosine : sine;
    value = gr_float(gr_bits(value) ^ (u32)(number & 2) << 30);
    return fabsf(x) >= 268435456.0f ? (float)huge : value;
}

GR_DEVICE float gr_sin(float x) { return gr_sine_of(x, 0, fabsf(x) >= 268435456.0f ? sin((double)x) : 0.0); }
GR_DEVICE float gr_cos(float x) { return gr_sine_of(x, 1, fabsf(x) >= 268435456.0f ? cos((double)x) : 0.0); }

// ---- the error function and powers

// Odd; a polynomial up to 1, 1 - e^p(x) beyond, 1 from 4 on.
GR_DEVICE float gr_erf(float x) {
    float magnitude = fabsf(x);
    float limited = 4.0f < magnitude ? 4.0f : magnitude;
    float square = limited * limited;
    float near = -9.667045e-06f;
    near = gr_fma(near, square, 1.1265959e-04f);
    near = gr_fma(near, square, -8.4840803e-04f);
    near = gr_fma(near, square, 5.2210316e-03f);
    near = gr_fma(near, square, -2.686543e-02f);
    near = gr_fma(near, square, 1.1283782e-01f);
    near = gr_fma(near, square, -3.7612638e-01f);
    near = gr_fma(near, square, 0.12837916f);
    near = gr_fma(near, limited, limited);
    float exponent = -7.582682e-08f;
    exponent = gr_fma(exponent, limited, 3.3216845e-06f);
    exponent = gr_fma(exponent, limited, -6.229835e-05f);
    exponent = gr_fma(exponent, limited, 6.8583665e-04f);
    exponent = gr_fma(exponent, limited, -5.064947e-03f);
    exponent = gr_fma(exponent, limited, 2.7099524e-02f);
    exponent = gr_fma(exponent, limited, -1.1105502e-01f);
    exponent = gr_fma(exponent, limited, -0.630953f);
    exponent = gr_fma(exponent, limited, -1.1306752e+00f);
    exponent = gr_fma(exponent, limited, 4.1632922e-04f);
    float far = 1.0f - gr_exp(exponent);
    return gr_copysign(limited < 1.0f ? near : far, x);
}

// Of a nonnegative double that was a float.
GR_DEVICE double gr_log2_of(double x) {
    i64 bits = (i64)gr_bits(x);
    i64 exponent = (i64)((u64)bits - 0x3fe6a09e667f3bcdull) >> 52;
    double mantissa = gr_double((u64)bits - ((u64)exponent << 52));
    double s = (mantissa - 1.0) / (mantissa + 1.0), square = s * s;
    double series = 0.2431378046690069;
    series = gr_fma(series, square, 0.26142622173862223);
    series = gr_fma(series, square, 0.32061693320147355);
    series = gr_fma(series, square, 0.41219839452951484);
    series = gr_fma(series, square, 0.5770780172926201);
    series = gr_fma(series, square, 0.961796693924232);
    series = gr_fma(series, square, 2.885390081777927);
    double sum = (double)exponent + series * s;
    sum = x == 0.0 ? gr_double(0xfff0000000000000ull) : sum;
    return x == gr_double(0x7ff0000000000000ull) ? x : sum;
}

// 2^x within the range of float, beyond which it gives 0 or what rounds to infinity.
GR_DEVICE double gr_exp2_of(double x) {
    x = -200.0 > x ? -200.0 : x;
    x = 200.0 < x ? 200.0 : x;
    double n = rint(x), f = x - n;
    double power = 1.0205916556573999e-07;
    power = gr_fma(power, f, 1.3259662936174463e-06);
    power = gr_fma(power, f, 1.525267287609254e-05);
    power = gr_fma(power, f, 0.0001540343367383866);
    power = gr_fma(power, f, 0.0013333558200859905);
    power = gr_fma(power, f, 0.009618129194038007);
    power = gr_fma(power, f, 0.0555041086646514);
    power = gr_fma(power, f, 0.24022650695639908);
    power = gr_fma(power, f, 0.6931471805599462);
    power = gr_fma(power, f, 1.0000000000000135);
    u64 field = gr_bits(n + 6755399441055744.0) << 52;
    return gr_double(gr_bits(power) + field);
}

// 2^(y log2 |x|), with the sign and the special cases of IEEE 754 `pow`.
GR_DEVICE float gr_pow(float x, float y) {
    float magnitude = fabsf(x), infinity = gr_float(0x7f800000u), nan = gr_float(0x7fc00000u);
    float power = (float)gr_exp2_of(gr_log2_of((double)magnitude) * (double)y);
    bool whole = floorf(y) == y, odd = whole && floorf(y * 0.5f) != y * 0.5f;
    float result = odd ? gr_copysign(power, x) : power;
    result = x < 0.0f && x > -infinity && !whole ? nan : result;
    result = x != x || y != y ? nan : result;
    bool one = x == 1.0f || y == 0.0f || (magnitude == 1.0f && fabsf(y) == infinity);
    return one ? 1.0f : result;
}

// ---- functions of double

GR_DEVICE double gr_exp(double x) { return exp(x); }
GR_DEVICE double gr_expm1(double x) { return expm1(x); }
GR_DEVICE double gr_log(double x) { return log(x); }
GR_DEVICE double gr_log1p(double x) { return log1p(x); }
GR_DEVICE double gr_sin(double x) { return sin(x); }
GR_DEVICE double gr_cos(double x) { return cos(x); }
GR_DEVICE double gr_tanh(double x) { return tanh(x); }
GR_DEVICE double gr_erf(double x) { return erf(x); }
GR_DEVICE double gr_pow(double x, double y) { return pow(x, y); }
GR_DEVICE double gr_sigmoid(double x) {
    double e = exp(-fabs(x));
    return (x >= 0.0 ? 1.0 : e) / (e + 1.0);
}

// x y + z, rounded once.
GR_DEVICE float gr_mad(float x, float y, float z) { return gr_fma(x, y, z); }
GR_DEVICE double gr_mad(double x, double y, double z) { return gr_fma(x, y, z); }
template <class T> GR_DEVICE T gr_mad(T x, T y, T z) { return gr_add(gr_mul(x, y), z); }
