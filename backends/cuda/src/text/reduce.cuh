// Values of several threads combined, in an order that is the same in every run.

struct gr_sum { template <class T> static GR_DEVICE_MEMBER T of(T x, T y) { return gr_add(x, y); } };
struct gr_prod { template <class T> static GR_DEVICE_MEMBER T of(T x, T y) { return gr_mul(x, y); } };
struct gr_most { template <class T> static GR_DEVICE_MEMBER T of(T x, T y) { return gr_max(x, y); } };
struct gr_least_of { template <class T> static GR_DEVICE_MEMBER T of(T x, T y) { return gr_min(x, y); } };

// Whether (x, at) is chosen before (y, y_at): NaN first, then the extreme, then the lower position.
struct gr_arg_max {
    template <class T> static GR_DEVICE_MEMBER bool better(T x, T y) { return x > y; }
};
struct gr_arg_min {
    template <class T> static GR_DEVICE_MEMBER bool better(T x, T y) { return x < y; }
};
template <class Arg, class T>
GR_DEVICE bool gr_beats(T x, i64 at, T y, i64 y_at) {
    bool x_nan = x != x, y_nan = y != y;
    if (x_nan || y_nan) return x_nan && (!y_nan || at < y_at);
    return Arg::better(x, y) || (x == y && at < y_at);
}
template <class Arg, class T>
GR_DEVICE void gr_choose(T* best, i64* best_at, T x, i64 at) {
    if (gr_beats<Arg>(x, at, *best, *best_at)) {
        *best = x;
        *best_at = at;
    }
}

// The value of the lane whose number differs in these bits.
template <class T>
GR_DEVICE T gr_shuffle(T x, i32 lanes) {
    union { T value; u32 word[2]; } bits;
    bits.word[0] = bits.word[1] = 0;
    bits.value = x;
    bits.word[0] = gr_shuffle_bits(bits.word[0], lanes);
    if (sizeof(T) == 8) bits.word[1] = gr_shuffle_bits(bits.word[1], lanes);
    return bits.value;
}

// Of a warp: every lane gets the result.
template <class Op, class T>
GR_DEVICE T gr_of_warp(T x) {
    GR_UNROLL
    for (i32 lanes = 16; lanes > 0; lanes /= 2) x = Op::of(x, gr_shuffle(x, lanes));
    return x;
}
template <class Arg, class T>
GR_DEVICE void gr_arg_of_warp(T* x, i64* at) {
    GR_UNROLL
    for (i32 lanes = 16; lanes > 0; lanes /= 2) {
        T y = gr_shuffle(*x, lanes);
        i64 y_at = gr_shuffle(*at, lanes);
        gr_choose<Arg>(x, at, y, y_at);
    }
}

// Of `members` slots, `stride` apart, one after the other.
template <class Op, class T>
GR_DEVICE T gr_of_slots(GR_LOCAL(T) slots, i32 first, i32 stride, i32 members) {
    T sum = slots[first];
    for (i32 member = 1; member < members; member++) sum = Op::of(sum, slots[first + member * stride]);
    return sum;
}

// A member's value in its slot, then the result of all members. Barriers before and after: slots are used again.
template <class Op, class T>
GR_DEVICE T gr_of_team(GR_LOCAL(T) slots, T x, i32 own, bool writes, i32 first, i32 stride, i32 members) {
    if (writes) slots[own] = x;
    gr_sync();
    x = gr_of_slots<Op, T>(slots, first, stride, members);
    gr_sync();
    return x;
}
template <class Arg, class T>
GR_DEVICE void gr_arg_of_team(GR_LOCAL(T) slots, GR_LOCAL(i64) places, T* x, i64* at, i32 own, bool writes, i32 first, i32 stride,
                              i32 members) {
    if (writes) {
        slots[own] = *x;
        places[own] = *at;
    }
    gr_sync();
    *x = slots[first];
    *at = places[first];
    for (i32 member = 1; member < members; member++) {
        i32 slot = first + member * stride;
        gr_choose<Arg>(x, at, (T)slots[slot], (i64)places[slot]);
    }
    gr_sync();
}

// What the lower threads of a block have, combined in their order, of `warps` warps; `total` becomes what all have. `identity` changes nothing.
// Slots, one a warp, are used again: barriers before and after.
template <class Op, class T>
GR_DEVICE T gr_of_earlier(GR_LOCAL(T) slots, T x, T identity, i32 warps, T* total) {
    i32 lane = gr_thread() % 32, warp = gr_thread() / 32;
    T before = identity, all = x;
    GR_UNROLL
    for (i32 step = 1; step < 32; step *= 2) {
        T other = gr_shuffle(all, step);
        if (lane & step) {
            before = Op::of(other, before);
            all = Op::of(other, all);
        } else {
            all = Op::of(all, other);
        }
    }
    if (lane == 0) slots[warp] = all;
    gr_sync();
    T earlier = identity;
    T sum = identity;
    for (i32 other = 0; other < warps; other++) {
        T there = slots[other];
        if (other < warp) earlier = Op::of(earlier, there);
        sum = Op::of(sum, there);
    }
    gr_sync();
    *total = sum;
    return Op::of(earlier, before);
}
