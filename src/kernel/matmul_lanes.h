/* matmul_lanes.h - the 8-bit product for vectors of 4 or 8 rows: a block of LANES rows is loaded, then multiplied by
 * all tokens of the panel, sums in memory. The file that includes it defines dot_block before. */
INLINE void load_block(nb_type type, shape s, const uint8_t *tile, unsigned b, unsigned lane, block *out)
{
    const uint8_t *words = tile + s.head + 4 * lane;
    vf d = tile_d(type, tile + 2 * lane, words), m = s.min ? vf_half(tile + 32 + 2 * lane) : d;
    UNROLL for (unsigned q = 0; q < 8; q++) out->code[q] = tile_quad(type, words, b, q);
    for (unsigned i = 0; i < s.subs; i++) {
        out->scale[i] = tile_scale(type, words, d, b, i);
        out->min[i] = tile_min(type, words, m, b, i);
    }
}

INLINE void unpack_tile(nb_type type, shape s, const uint8_t *tile, size_t n, uint8_t *codes)
{
    for (; n; n--, tile += s.bytes)
        UNROLL for (unsigned b = 0; b < s.blocks;
                    b++, codes += nb_codes_bytes(s.subs, s.min)) for (unsigned lane = 0; lane < 16; lane += LANES)
        {
            block w;
            load_block(type, s, tile, b, lane, &w);
            for (size_t q = 0; q < 8; q++)
                memcpy(codes + q * 64 + 4 * lane, &w.code[q], sizeof(vu));
            for (size_t i = 0; i < s.subs; i++) {
                vf_store(codes + 512 + i * 64 + 4 * lane, w.scale[i]);
                if (s.min)
                    vf_store(codes + 512 + (s.subs + i) * 64 + 4 * lane, w.min[i]);
            }
        }
}

INLINE void add_codes(shape s, const uint8_t *codes, const uint8_t *panel, const unsigned width, size_t n, nb_sums acc)
{
    for (; n; n--, codes += nb_codes_bytes(s.subs, s.min), panel += NB_PANEL_Q8_BYTES * width)
        for (size_t lane = 0; lane < 16; lane += LANES) {
            block w = {0};
            for (size_t q = 0; q < 8; q++)
                w.code[q] = vu_load(codes + q * 64 + 4 * lane);
            for (size_t i = 0; i < s.subs; i++) {
                w.scale[i] = vf_load(codes + 512 + i * 64 + 4 * lane);
                if (s.min)
                    w.min[i] = vf_load(codes + 512 + (s.subs + i) * 64 + 4 * lane);
            }
            dot_block(&w, s, panel, width, acc.at + lane, acc.stride);
        }
}

INLINE void dot_codes(shape s, const uint8_t *codes, const uint8_t *panel, const unsigned width, size_t n, nb_sums acc)
{
    begin_sums(acc, width);
    add_codes(s, codes, panel, width, n, acc);
}

/* Types of 256 values go through codes in L1: unrolling their 8 blocks for 4 widths would take half a megabyte. */
INLINE void dot_tile(nb_type type, shape s, nb_unpack_fn *unpack, const uint8_t *tile, const uint8_t *panel,
                     const unsigned width, size_t n, nb_sums acc)
{
    begin_sums(acc, width);
    for (; n; n--, tile += s.bytes, panel += s.blocks * NB_PANEL_Q8_BYTES * width)
        if (s.blocks > 1) {
            _Alignas(64) uint8_t codes[8 * (512 + 64 * 4)];
            unpack(tile, 1, codes);
            add_codes(s, codes, panel, width, s.blocks, acc);
        } else
            for (unsigned lane = 0; lane < 16; lane += LANES) {
                block w;
                load_block(type, s, tile, 0, lane, &w);
                dot_block(&w, s, panel, width, acc.at + lane, acc.stride);
            }
}
