/* blocks.h - the bytes of each GGUF block type (little-endian). The formats are ggml's; names of fields are ours:
 * d scale, m minimum, qs low bits, qh high bits. Source: the public GGUF files themselves and gguf-py. */
#ifndef NB_QUANT_BLOCKS_H
#define NB_QUANT_BLOCKS_H

#include <stdint.h>

/* clang-format off */

typedef uint16_t nb_f16;  /* IEEE binary16 bits */
typedef uint16_t nb_bf16; /* bfloat16 bits */

typedef struct { float v; } nb_block_f32;
typedef struct { nb_f16 v; } nb_block_f16;
typedef struct { nb_bf16 v; } nb_block_bf16;
typedef struct { double v; } nb_block_f64;
typedef struct { int8_t v; } nb_block_i8;
typedef struct { int16_t v; } nb_block_i16;
typedef struct { int32_t v; } nb_block_i32;
typedef struct { int64_t v; } nb_block_i64;

/* 32 values: x = d * (q - 8); low nibbles are values 0..15, high ones 16..31 */
typedef struct { nb_f16 d; uint8_t qs[16]; } nb_block_q4_0;
/* x = d * q + m */
typedef struct { nb_f16 d, m; uint8_t qs[16]; } nb_block_q4_1;
/* fifth bits in qh, bit i for value i: x = d * (q - 16) */
typedef struct { nb_f16 d; uint8_t qh[4]; uint8_t qs[16]; } nb_block_q5_0;
typedef struct { nb_f16 d, m; uint8_t qh[4]; uint8_t qs[16]; } nb_block_q5_1;
typedef struct { nb_f16 d; int8_t qs[32]; } nb_block_q8_0;
typedef struct { nb_f16 d, s; int8_t qs[32]; } nb_block_q8_1; /* activations of ggml: never in a file */

/* 256 values in sub-blocks of 16: x = d * (scales & 15) * q - dmin * (scales >> 4) */
typedef struct { uint8_t scales[16]; uint8_t qs[64]; nb_f16 d, dmin; } nb_block_q2_k;
/* sub-blocks of 16, six-bit scales - 32, third bits in hmask: x = d * scale * (q - 4) */
typedef struct { uint8_t hmask[32]; uint8_t qs[64]; uint8_t scales[12]; nb_f16 d; } nb_block_q3_k;
/* sub-blocks of 32, six-bit scales and minima in 12 bytes: x = d * scale * q - dmin * min */
typedef struct { nb_f16 d, dmin; uint8_t scales[12]; uint8_t qs[128]; } nb_block_q4_k;
typedef struct { nb_f16 d, dmin; uint8_t scales[12]; uint8_t qh[32]; uint8_t qs[128]; } nb_block_q5_k;
/* sub-blocks of 16 with int8 scales: x = d * scale * (q - 32) */
typedef struct { uint8_t ql[128]; uint8_t qh[64]; int8_t scales[16]; nb_f16 d; } nb_block_q6_k;
typedef struct { float d; int8_t qs[256]; int16_t bsums[16]; } nb_block_q8_k; /* activations of ggml */

typedef struct { nb_f16 d; uint16_t qs[32]; } nb_block_iq2_xxs;
typedef struct { nb_f16 d; uint16_t qs[32]; uint8_t scales[8]; } nb_block_iq2_xs;
typedef struct { nb_f16 d; uint8_t qs[64]; uint8_t qh[8]; uint8_t scales[8]; } nb_block_iq2_s;
typedef struct { nb_f16 d; uint8_t qs[96]; } nb_block_iq3_xxs;
typedef struct { nb_f16 d; uint8_t qs[64]; uint8_t qh[8]; uint8_t signs[32]; uint8_t scales[4]; } nb_block_iq3_s;
typedef struct { nb_f16 d; uint8_t qs[32]; uint16_t qh[8]; } nb_block_iq1_s;
typedef struct { uint8_t qs[32]; uint8_t qh[16]; uint8_t scales[8]; } nb_block_iq1_m;
typedef struct { nb_f16 d; uint8_t qs[16]; } nb_block_iq4_nl;
typedef struct { nb_f16 d; uint16_t scales_h; uint8_t scales_l[4]; uint8_t qs[128]; } nb_block_iq4_xs;
typedef struct { uint8_t qs[48]; uint8_t qh[4]; nb_f16 d; } nb_block_tq1_0;
typedef struct { uint8_t qs[64]; nb_f16 d; } nb_block_tq2_0;
typedef struct { uint8_t e; uint8_t qs[16]; } nb_block_mxfp4;
typedef struct { uint8_t d[4]; uint8_t qs[32]; } nb_block_nvfp4;
typedef struct { nb_f16 d; uint8_t qs[16]; } nb_block_q1_0;
typedef struct { nb_f16 d; uint8_t qs[16]; } nb_block_q2_0;

/* Of our own, for weights loaded in 4 or 8 bit; no file holds them. 64 values of NF4 or FP4, value 2i in the high half of
 * byte i: x = d * map[q]; and 32 of LLM.int8(), whose row has one scale: x = d * q */
typedef struct { float d; uint8_t qs[32]; } nb_block_bnb4;
typedef struct { float d; int8_t qs[32]; } nb_block_int8;

/* clang-format on */

#endif
