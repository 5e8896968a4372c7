// Philox4x32-10 (Salmon et al., 2011), as `ir/src/philox.rs`.

// Word `position mod 4` of the block with counter `[position / 4, stream, step..]`.
GR_DEVICE u32 gr_philox(u32 key_0, u32 key_1, u32 step_low, u32 step_high, i64 position, u32 stream) {
    u32 counter[4] = {(u32)((u64)position >> 2), stream, step_low, step_high};
    GR_UNROLL
    for (i32 round = 0; round < 10; round++) {
        u32 high_0 = gr_high(0xd2511f53u, counter[0]), low_0 = 0xd2511f53u * counter[0];
        u32 high_1 = gr_high(0xcd9e8d57u, counter[2]), low_1 = 0xcd9e8d57u * counter[2];
        counter[0] = high_1 ^ counter[1] ^ key_0;
        counter[1] = low_1;
        counter[2] = high_0 ^ counter[3] ^ key_1;
        counter[3] = low_0;
        key_0 += 0x9e3779b9u;
        key_1 += 0xbb67ae85u;
    }
    u32 place = (u32)position & 3u;
    return place == 0 ? counter[0] : place == 1 ? counter[1] : place == 2 ? counter[2] : counter[3];
}
