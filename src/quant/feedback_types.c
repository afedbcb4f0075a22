/* The types that rounding with feedback knows value by value: their levels, and where codes go. */
#include "quant/feedback_table.h"
#include "quant/quantize_pack.h"

static void put_q4_0(const uint8_t *codes, void *block) { nb_pack_nibbles(codes, ((nb_block_q4_0 *)block)->qs); }
static void put_q4_1(const uint8_t *codes, void *block) { nb_pack_nibbles(codes, ((nb_block_q4_1 *)block)->qs); }

static void put_q5_0(const uint8_t *codes, void *block)
{
    nb_block_q5_0 *b = block;
    nb_pack_nibbles(codes, b->qs);
    nb_pack_fifth(codes, b->qh);
}

static void put_q5_1(const uint8_t *codes, void *block)
{
    nb_block_q5_1 *b = block;
    nb_pack_nibbles(codes, b->qs);
    nb_pack_fifth(codes, b->qh);
}

static void put_q8_0(const uint8_t *codes, void *block)
{
    for (int i = 0; i < 32; i++)
        ((nb_block_q8_0 *)block)->qs[i] = (int8_t)(codes[i] - 127);
}

static void put_q2_k(const uint8_t *codes, void *block) { nb_pack_k_pairs(codes, ((nb_block_q2_k *)block)->qs); }
static void put_q4_k(const uint8_t *codes, void *block) { nb_pack_k_nibbles(codes, ((nb_block_q4_k *)block)->qs); }
static void put_q6_k(const uint8_t *codes, void *block) { nb_pack_k_six(codes, block); }

static void put_q3_k(const uint8_t *codes, void *block)
{
    nb_block_q3_k *b = block;
    nb_pack_k_pairs(codes, b->qs);
    nb_pack_k_bit(codes, 2, b->hmask);
}

static void put_q5_k(const uint8_t *codes, void *block)
{
    nb_block_q5_k *b = block;
    nb_pack_k_nibbles(codes, b->qs);
    nb_pack_k_bit(codes, 4, b->qh);
}

static void put_tq1_0(const uint8_t *codes, void *block) { nb_pack_tq1_0(codes, block); }
static void put_tq2_0(const uint8_t *codes, void *block) { nb_pack_tq2_0(codes, block); }
static void put_q2_0(const uint8_t *codes, void *block) { nb_pack_q2_0(codes, block); }
static void put_iq4_nl(const uint8_t *codes, void *block) { nb_pack_nibbles(codes, ((nb_block_iq4_nl *)block)->qs); }

static void put_iq4_xs(const uint8_t *codes, void *block)
{
    for (int sub = 0; sub < 8; sub++)
        nb_pack_nibbles(codes + sub * 32, ((nb_block_iq4_xs *)block)->qs + sub * 16);
}

/* FP4's levels in ascending order as its codes: a sign and a magnitude */
static uint8_t e2m1_code(uint8_t rank) { return rank < 7 ? 15 - rank : rank - 7; }

static void put_mxfp4(const uint8_t *codes, void *block)
{
    for (int i = 0; i < 16; i++)
        ((nb_block_mxfp4 *)block)->qs[i] = (uint8_t)(e2m1_code(codes[i]) | e2m1_code(codes[i + 16]) << 4);
}

static void put_nvfp4(const uint8_t *codes, void *block)
{
    for (int i = 0; i < 32; i++) {
        const uint8_t *c = codes + i / 8 * 16 + i % 8;
        ((nb_block_nvfp4 *)block)->qs[i] = (uint8_t)(e2m1_code(c[0]) | e2m1_code(c[8]) << 4);
    }
}

static const float nonlinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const float e2m1_doubled[15] = {-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12};

static const nb_feedback_type types[] = {
    {NB_TYPE_Q4_0, 16, NULL, 0, put_q4_0},
    {NB_TYPE_Q4_1, 16, NULL, 0, put_q4_1},
    {NB_TYPE_Q5_0, 32, NULL, 0, put_q5_0},
    {NB_TYPE_Q5_1, 32, NULL, 0, put_q5_1},
    {NB_TYPE_Q8_0, 255, NULL, 0, put_q8_0},
    {NB_TYPE_Q2_K, 4, NULL, 0, put_q2_k},
    {NB_TYPE_Q3_K, 8, NULL, 0, put_q3_k},
    {NB_TYPE_Q4_K, 16, NULL, 0, put_q4_k},
    {NB_TYPE_Q5_K, 32, NULL, 0, put_q5_k},
    {NB_TYPE_Q6_K, 64, NULL, 0, put_q6_k},
    {NB_TYPE_TQ1_0, 3, NULL, 0, put_tq1_0},
    {NB_TYPE_TQ2_0, 3, NULL, 0, put_tq2_0},
    {NB_TYPE_Q2_0, 4, NULL, 0, put_q2_0},
    {NB_TYPE_IQ4_NL, 16, nonlinear, 8, put_iq4_nl},
    {NB_TYPE_IQ4_XS, 16, nonlinear, 8, put_iq4_xs},
    {NB_TYPE_MXFP4, 15, e2m1_doubled, 8, put_mxfp4},
    {NB_TYPE_NVFP4, 15, e2m1_doubled, 8, put_nvfp4},
};

const nb_feedback_type *nb_feedback_type_of(uint32_t id)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if ((uint32_t)types[i].type == id)
            return &types[i];
    return NULL;
}
