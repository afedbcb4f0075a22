/* Every kind of damaged or malicious GGUF file gets an error that names the file, the byte and a remedy, within 100 ms
 * and 64 MiB. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "format/gguf.h"
#include "gguf_builder.h"

enum {
    F32 = 0,
    Q4_0 = 2,
    Q4_2 = 4,
    Q8_0 = 8,
    Q4_K = 12,
    U8 = 0,
    U32 = 4,
    I32 = 5,
    FLOAT = 6,
    BOOL = 7,
    STRING = 8,
    ARRAY = 9,
    U64 = 10
};

/* a good file of one tensor, up to its entry */
static void one_tensor(builder *x)
{
    put_header(x, 3, 1, 1);
    put_key(x, "general.architecture", STRING);
    put_str(x, "llama");
}

static void two_tensors(builder *x, uint64_t second_offset)
{
    put_header(x, 3, 2, 0);
    put_info(x, "a", 16, 0, F32, 0);
    put_str(x, "b");
    put_u32(x, 1);
    put_u64(x, 16);
    put_u32(x, F32);
    mark(x);
    put_u64(x, second_offset);
    put_data(x, 32, 256);
}

/* ---- the header ---- */
static void empty_file(builder *x) { mark(x); }
static void three_bytes(builder *x) { put_bytes(x, "GGU", 3); }
static void wrong_magic(builder *x) { put_bytes(x, "GGUX\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24); }
static void old_ggjt(builder *x) { put_bytes(x, "tjgg\3\0\0\0\0\0\0\0", 12); }
static void zip_archive(builder *x) { put_bytes(x, "PK\003\004\0\0\0\0\0\0\0\0", 12); }
static void lfs_pointer(builder *x) { put_bytes(x, "version https://git-lfs.github.com/spec/v1\n", 43); }
static void web_page(builder *x) { put_bytes(x, "<!DOCTYPE html><html>", 21); }
static void safetensors(builder *x) { put_bytes(x, "\x10\0\0\0\0\0\0\0{\"a\":1}       ", 22); }
static void only_magic(builder *x)
{
    put_bytes(x, "GGUF", 4);
    mark(x);
}
static void version(builder *x, uint32_t v)
{
    put_header(x, v, 0, 0);
    x->bad = 4;
}
static void version_0(builder *x) { version(x, 0); }
static void version_1(builder *x) { version(x, 1); }
static void version_4(builder *x) { version(x, 4); }
static void version_absurd(builder *x) { version(x, 0xdeadbeef); }
static void big_endian_3(builder *x) { version(x, 0x03000000); }
static void big_endian_2(builder *x) { version(x, 0x02000000); }
static void cut_tensor_count(builder *x)
{
    put_bytes(x, "GGUF\3\0\0\0\1\0\0\0", 12);
    x->bad = 8;
}
static void cut_value_count(builder *x)
{
    put_bytes(x, "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\0", 19);
    x->bad = 16;
}
static void tensor_count_max(builder *x)
{
    put_header(x, 3, UINT64_MAX, 0);
    x->bad = 8;
}
static void tensor_count_beyond_file(builder *x)
{
    put_header(x, 3, 1000, 0);
    put_data(x, 32, 500);
    x->bad = 8;
}
static void tensor_count_over_limit(builder *x)
{
    put_header(x, 3, 100000, 0);
    x->file_bytes = 1 << 24;
    x->bad = 8;
}
static void value_count_max(builder *x)
{
    put_header(x, 3, 0, UINT64_MAX / 2);
    x->bad = 16;
}
static void value_count_beyond_file(builder *x)
{
    put_header(x, 3, 0, 3);
    put_key_u32(x, "a", 1);
    x->bad = 16;
}
static void value_count_over_limit(builder *x)
{
    put_header(x, 3, 0, 100000);
    x->file_bytes = 1 << 24;
    x->bad = 16;
}

/* ---- metadata ---- */
static void key_length_max(builder *x)
{
    put_header(x, 3, 0, 1);
    put_u64(x, UINT64_MAX);
    mark(x);
    put_data(x, 32, 64);
}
static void key_length_wraps(builder *x)
{
    put_header(x, 3, 0, 1);
    put_u64(x, UINT64_MAX - 31); /* the cursor would wrap to the header */
    mark(x);
    put_data(x, 32, 64);
}
static void key_empty(builder *x)
{
    put_header(x, 3, 0, 1);
    mark(x);
    put_key_u32(x, "", 1);
    put_data(x, 32, 32);
}
static void key_control_bytes(builder *x)
{
    put_header(x, 3, 0, 1);
    mark(x);
    put_key_u32(x, "gen\033[31meral", 1);
}
static void key_too_long(builder *x)
{
    put_header(x, 3, 0, 1);
    mark(x);
    put_u64(x, 100000);
    for (int i = 0; i < 100000; i++)
        nb_buf_char(&x->b, 'k');
    put_u32(x, U8);
    put_u32(x, 0);
}
static void key_twice(builder *x)
{
    put_header(x, 3, 0, 3);
    put_key_u32(x, "general.file_type", 1);
    put_key_u32(x, "other", 1);
    x->bad = x->b.len + 8;
    put_key_u32(x, "general.file_type", 1);
}
static void kind_unknown(builder *x)
{
    put_header(x, 3, 0, 1);
    put_str(x, "k");
    mark(x);
    put_u32(x, 13);
    put_u64(x, 0);
}
static void kind_negative(builder *x)
{
    put_header(x, 3, 0, 1);
    put_str(x, "k");
    mark(x);
    put_u32(x, 0xffffffff);
    put_u64(x, 0);
}
static void value_cut(builder *x)
{
    put_header(x, 3, 0, 1);
    put_key(x, "k", U64);
    mark(x);
    put_u32(x, 7);
}
static void value_missing(builder *x)
{
    put_header(x, 3, 0, 1);
    put_str(x, "kkk");
    mark(x);
    put_bytes(x, "\0\0\0", 3);
}
static void bool_two(builder *x)
{
    put_header(x, 3, 0, 1);
    put_key(x, "k", BOOL);
    mark(x);
    put_bytes(x, "\2", 1);
}
static void string_length_max(builder *x)
{
    put_header(x, 3, 0, 1);
    put_key(x, "k", STRING);
    put_u64(x, UINT64_MAX - 7);
    mark(x);
    put_data(x, 32, 32);
}
static void string_cut(builder *x)
{
    put_header(x, 3, 0, 1);
    put_key(x, "tokenizer.chat_template", STRING);
    put_u64(x, 100);
    mark(x);
    put_bytes(x, "only this", 9);
}
static void array_of_arrays(builder *x)
{
    put_header(x, 3, 0, 1);
    put_key(x, "k", ARRAY);
    mark(x);
    put_u32(x, ARRAY);
    put_u64(x, 1);
    put_u32(x, U8);
    put_u64(x, 0);
}
static void array_kind_unknown(builder *x)
{
    put_header(x, 3, 0, 1);
    put_key(x, "k", ARRAY);
    mark(x);
    put_u32(x, 99);
    put_u64(x, 1);
    put_u64(x, 0);
}
static void array_count(builder *x, uint32_t element, uint64_t count)
{
    put_header(x, 3, 0, 1);
    put_key(x, "k", ARRAY);
    put_u32(x, element);
    mark(x);
    put_u64(x, count);
    put_data(x, 32, 64);
}
static void array_count_max(builder *x) { array_count(x, U8, UINT64_MAX); }
static void array_count_wraps(builder *x) { array_count(x, U32, (uint64_t)1 << 62); } /* times 4 is 0 */
static void array_count_wraps_8(builder *x) { array_count(x, U64, ((uint64_t)1 << 61) + 1); }
static void array_beyond_file(builder *x) { array_count(x, FLOAT, 1000); }
static void string_array_count_max(builder *x) { array_count(x, STRING, (uint64_t)1 << 61); }
static void string_array_cut(builder *x)
{
    put_header(x, 3, 0, 1);
    put_key_array(x, "tokenizer.ggml.tokens", STRING, 3);
    put_str(x, "<s>");
    mark(x);
    put_u64(x, 1000000);
    put_data(x, 32, 64);
}
static void string_array_length_wraps(builder *x)
{
    put_header(x, 3, 0, 1);
    put_key_array(x, "k", STRING, 2);
    mark(x);
    put_u64(x, UINT64_MAX - 7); /* with its length's own bytes: back where it started */
    put_data(x, 32, 64);
}
static void string_array_huge(builder *x) /* 2^24 empty strings in a hole */
{
    put_header(x, 3, 0, 1);
    put_key(x, "tokenizer.ggml.tokens", ARRAY);
    put_u32(x, STRING);
    mark(x);
    put_u64(x, 1 << 24);
    x->file_bytes = 1 << 28;
}
static void string_arrays_many(builder *x) /* each within its limit, together too much to walk */
{
    put_header(x, 3, 0, 64);
    for (int i = 0; i < 64; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        put_key_array(x, key, STRING, 1000);
        for (int k = 0; k < 1000; k++)
            put_str(x, i == 0 ? "first" : "");
        if (i == 2)
            break;
    }
    put_key_array(x, "long", STRING, 3);
    put_u64(x, 3 << 24);
    x->bad = x->b.len + (3 << 24);
    x->file_bytes = 1 << 26;
}
static void string_array_long(builder *x) /* a page a string: 60 MiB to walk */
{
    static const char page[4088];
    put_header(x, 3, 0, 1);
    put_key_array(x, "pages", STRING, 15360);
    x->bad = x->b.len + 12289 * 4096;
    for (int i = 0; i < 15360; i++)
        put_str_n(x, page, sizeof page);
}
static void value_count_max_allowed(builder *x) /* thousands of good keys, and one of them twice */
{
    put_header(x, 3, 0, 8000);
    for (int i = 0; i < 8000; i++) {
        char key[16];
        snprintf(key, sizeof key, "key.%d", i == 7999 ? 0 : i);
        x->bad = x->b.len + 8;
        put_key_u32(x, key, (uint32_t)i);
    }
}
static void alignment_is(builder *x, uint32_t kind, uint64_t value)
{
    put_header(x, 3, 1, 1);
    put_key(x, "general.alignment", kind);
    mark(x);
    put_bytes(x, &value, kind == U64 ? 8 : 4);
    put_info(x, "a", 16, 0, F32, 0);
    put_data(x, 32, 64);
}
static void alignment_0(builder *x) { alignment_is(x, U32, 0); }
static void alignment_1(builder *x) { alignment_is(x, U32, 1); }
static void alignment_3(builder *x) { alignment_is(x, U32, 3); }
static void alignment_48(builder *x) { alignment_is(x, U32, 48); }
static void alignment_signed(builder *x) { alignment_is(x, I32, 0xffffffe0); }
static void alignment_float(builder *x) { alignment_is(x, FLOAT, 0x42000000); }
static void alignment_absurd(builder *x)
{
    alignment_is(x, U64, (uint64_t)1 << 63);
    x->bad = 24 + 8 + 17 + 4 + 8 + 8 + 1 + 4 + 8 + 4 + 8; /* where the data should follow */
}
static void alignment_string(builder *x)
{
    put_header(x, 3, 0, 1);
    put_key(x, "general.alignment", STRING);
    x->bad = x->b.len + 8;
    put_str(x, "32");
}

/* ---- tensors ---- */
static void name_empty(builder *x)
{
    one_tensor(x);
    mark(x);
    put_info(x, "", 16, 0, F32, 0);
    put_data(x, 32, 64);
}
static void name_too_long(builder *x)
{
    one_tensor(x);
    mark(x);
    put_info(x, "0123456789012345678901234567890123456789012345678901234567890123", 16, 0, F32, 0);
    put_data(x, 32, 64);
}
static void name_length_max(builder *x)
{
    one_tensor(x);
    put_u64(x, INT64_MAX);
    mark(x);
    put_data(x, 32, 64);
}
static void name_control_bytes(builder *x)
{
    one_tensor(x);
    mark(x);
    put_info(x, "blk\n.0", 16, 0, F32, 0);
    put_data(x, 32, 64);
}
static void name_twice(builder *x)
{
    put_header(x, 3, 2, 0);
    put_info(x, "output.weight", 16, 0, F32, 0);
    x->bad = x->b.len + 8;
    put_info(x, "output.weight", 16, 0, F32, 64);
    put_data(x, 32, 128);
}
static void entry_cut(builder *x)
{
    one_tensor(x);
    put_str(x, "a");
    put_u32(x, 2);
    put_u64(x, 16);
    mark(x);
    put_u32(x, 1);
}
static void entry_without_offset(builder *x)
{
    one_tensor(x);
    put_str(x, "abcdefghijk");
    put_u32(x, 1);
    put_u64(x, 16);
    put_u32(x, F32);
    mark(x);
}
static void dims(builder *x, uint32_t n, uint64_t each, uint32_t type)
{
    one_tensor(x);
    put_str(x, "a");
    mark(x);
    put_u32(x, n);
    for (uint32_t i = 0; i < n && i < 8; i++)
        put_u64(x, each);
    put_u32(x, type);
    put_u64(x, 0);
    put_data(x, 32, 64);
}
static void dims_5(builder *x) { dims(x, 5, 2, F32); }
static void dims_max(builder *x) { dims(x, UINT32_MAX, 2, F32); }
static void dims_zero(builder *x)
{
    dims(x, 2, 0, F32);
    x->bad += 4;
}
static void dims_negative(builder *x)
{
    dims(x, 1, (uint64_t)-16, F32);
    x->bad += 4;
}
static void dims_wrap(builder *x) /* 2^32 * 2^32 values */
{
    dims(x, 2, (uint64_t)1 << 32, F32);
    x->bad += 4 + 16;
}
static void dims_wrap_4(builder *x) /* 2^16 each: 2^64 */
{
    dims(x, 4, 1 << 16, F32);
    x->bad += 4 + 32;
}
static void bytes_wrap(builder *x) /* 2^62 values fit, times four bytes they do not */
{
    dims(x, 1, (uint64_t)1 << 62, F32);
    x->bad += 4 + 8;
}
static void padding_wraps(builder *x) /* 2^64 - 16 bytes: the round-up wraps */
{
    dims(x, 1, ((uint64_t)1 << 62) - 4, F32);
    x->bad += 4 + 8 + 4;
}
static void rows_not_blocks(builder *x)
{
    dims(x, 2, 33, Q4_0);
    x->bad += 4 + 16;
}
static void rows_not_super_blocks(builder *x)
{
    dims(x, 1, 96, Q4_K);
    x->bad += 4 + 8;
}
static void type_is(builder *x, uint32_t type)
{
    dims(x, 1, 256, type);
    x->bad += 4 + 8;
}
static void type_removed_4(builder *x) { type_is(x, Q4_2); }
static void type_removed_5(builder *x) { type_is(x, 5); }
static void type_removed_31(builder *x) { type_is(x, 31); }
static void type_removed_33(builder *x) { type_is(x, 33); }
static void type_removed_36(builder *x) { type_is(x, 36); }
static void type_removed_38(builder *x) { type_is(x, 38); }
static void type_unknown(builder *x) { type_is(x, 43); }
static void type_negative(builder *x) { type_is(x, 0xffffffff); }
static void offset_misaligned(builder *x) { two_tensors(x, 72); }
static void offset_overlaps(builder *x) { two_tensors(x, 0); }
static void offset_overlaps_partly(builder *x) { two_tensors(x, 32); }
static void offset_gap(builder *x) { two_tensors(x, 128); }
static void offset_wraps(builder *x) { two_tensors(x, UINT64_MAX - 31); }
static void offset_max(builder *x) { two_tensors(x, UINT64_MAX); }
static void offsets_out_of_order(builder *x)
{
    put_header(x, 3, 2, 0);
    x->bad = x->b.len + 8 + 1 + 4 + 8 + 4;
    put_info(x, "a", 16, 0, F32, 64);
    put_info(x, "b", 16, 0, F32, 0);
    put_data(x, 32, 128);
}
static void first_offset_not_0(builder *x)
{
    one_tensor(x);
    x->bad = x->b.len + 8 + 1 + 4 + 8 + 4;
    put_info(x, "a", 16, 0, F32, 32);
    put_data(x, 32, 128);
}
static void sizes_wrap_together(builder *x) /* 2^63 bytes each: both fit, their sum does not */
{
    put_header(x, 3, 2, 0);
    put_info(x, "a", (uint64_t)1 << 61, 0, F32, 0);
    x->bad = x->b.len + 8 + 1 + 4 + 8 + 4;
    put_info(x, "b", (uint64_t)1 << 61, 0, F32, (uint64_t)1 << 63);
    put_data(x, 32, 64);
}
static void data_missing(builder *x)
{
    one_tensor(x);
    put_info(x, "a", 16, 0, F32, 0);
    mark(x);
}
static void data_cut(builder *x)
{
    one_tensor(x);
    put_info(x, "a", 16, 0, F32, 0);
    put_data(x, 32, 0);
    mark(x);
    put_data(x, 32, 63);
}
static void data_larger_than_file(builder *x) /* the heap-leak of CVE-2026-7482 */
{
    one_tensor(x);
    put_info(x, "a", 4096, 4096, Q8_0, 0);
    put_data(x, 32, 0);
    mark(x);
    put_data(x, 32, 64);
}
static void last_tensor_cut(builder *x)
{
    put_header(x, 3, 2, 0);
    put_info(x, "a", 16, 0, F32, 0);
    put_info(x, "b", 16, 0, F32, 64);
    put_data(x, 32, 64);
    mark(x);
    put_data(x, 32, 32);
}
static void tensor_count_max_allowed(builder *x) /* the most that are read, and one of them twice */
{
    enum { N = 65536 };
    put_header(x, 3, N, 0);
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "blk.%d.weight", i == N - 1 ? 77 : i);
        x->bad = x->b.len + 8;
        put_info(x, name, 8, 0, F32, (uint64_t)i * 32);
    }
    x->file_bytes = x->b.len + N * 32 + 32;
}

/* ---- shards, by key ---- */
static void shard_without_its_name(builder *x)
{
    put_header(x, 3, 0, 1);
    put_key(x, "split.count", 2);
    mark(x);
    put_bytes(x, "\3\0", 2);
}

static void shard_count_negative(builder *x)
{
    put_header(x, 3, 0, 1);
    put_key(x, "split.count", I32);
    mark(x);
    put_u32(x, 0xfffffffd);
}

static const struct hostile {
    const char *name;
    void (*build)(builder *x);
    nb_status status;
    const char *says;
} cases[] = {
#define CASE(name, status, says)                                                                                       \
    {                                                                                                                  \
#name, name, NB_ERR_##status, says                                                                             \
    }
    CASE(empty_file, FORMAT, "empty"),
    CASE(three_bytes, FORMAT, "truncated"),
    CASE(wrong_magic, FORMAT, "no 'GGUF'"),
    CASE(old_ggjt, FORMAT, "before GGUF"),
    CASE(zip_archive, FORMAT, "zip"),
    CASE(lfs_pointer, FORMAT, "git lfs pull"),
    CASE(web_page, FORMAT, "web page"),
    CASE(safetensors, FORMAT, "safetensors"),
    CASE(only_magic, FORMAT, "truncated"),
    CASE(version_0, FORMAT, "version 0"),
    CASE(version_1, UNSUPPORTED, "version 1"),
    CASE(version_4, UNSUPPORTED, "version 4"),
    CASE(version_absurd, FORMAT, "unknown"),
    CASE(big_endian_3, UNSUPPORTED, "big-endian"),
    CASE(big_endian_2, UNSUPPORTED, "big-endian"),
    CASE(cut_tensor_count, FORMAT, "truncated"),
    CASE(cut_value_count, FORMAT, "truncated"),
    CASE(tensor_count_max, FORMAT, "number of tensors"),
    CASE(tensor_count_beyond_file, FORMAT, "number of tensors"),
    CASE(tensor_count_over_limit, LIMIT, "number of tensors"),
    CASE(value_count_max, FORMAT, "number of metadata"),
    CASE(value_count_beyond_file, FORMAT, "number of metadata"),
    CASE(value_count_over_limit, LIMIT, "number of metadata"),
    CASE(key_length_max, FORMAT, "truncated"),
    CASE(key_length_wraps, FORMAT, "truncated"),
    CASE(key_empty, FORMAT, "is empty"),
    CASE(key_control_bytes, FORMAT, "printable"),
    CASE(key_too_long, FORMAT, "too long"),
    CASE(key_twice, FORMAT, "'general.file_type' is there twice"),
    CASE(kind_unknown, FORMAT, "value type 13"),
    CASE(kind_negative, FORMAT, "value type"),
    CASE(value_cut, FORMAT, "truncated"),
    CASE(value_missing, FORMAT, "truncated"),
    CASE(bool_two, FORMAT, "bool"),
    CASE(string_length_max, FORMAT, "truncated"),
    CASE(string_cut, FORMAT, "truncated"),
    CASE(array_of_arrays, UNSUPPORTED, "array of arrays"),
    CASE(array_kind_unknown, FORMAT, "type 99"),
    CASE(array_count_max, FORMAT, "type u8"),
    CASE(array_count_wraps, FORMAT, "type u32"),
    CASE(array_count_wraps_8, FORMAT, "type u64"),
    CASE(array_beyond_file, FORMAT, "type f32"),
    CASE(string_array_count_max, FORMAT, "type string"),
    CASE(string_array_cut, FORMAT, "string 1 of 3 of 'tokenizer.ggml.tokens'"),
    CASE(string_array_length_wraps, FORMAT, "string 0 of 2"),
    CASE(string_array_huge, LIMIT, "strings"),
    CASE(string_arrays_many, LIMIT, "string arrays"),
    CASE(string_array_long, LIMIT, "'pages' brings the string arrays over 48 MiB"),
    CASE(value_count_max_allowed, FORMAT, "'key.0' is there twice"),
    CASE(alignment_0, FORMAT, "general.alignment is 0"),
    CASE(alignment_1, FORMAT, "general.alignment is 1"),
    CASE(alignment_3, FORMAT, "general.alignment is 3"),
    CASE(alignment_48, FORMAT, "general.alignment is 48"),
    CASE(alignment_signed, FORMAT, "type i32"),
    CASE(alignment_float, FORMAT, "type f32"),
    CASE(alignment_absurd, FORMAT, "aligned to 9223372036854775808"),
    CASE(alignment_string, FORMAT, "type string"),
    CASE(name_empty, FORMAT, "is empty"),
    CASE(name_too_long, FORMAT, "too long"),
    CASE(name_length_max, FORMAT, "truncated"),
    CASE(name_control_bytes, FORMAT, "printable"),
    CASE(name_twice, FORMAT, "'output.weight' is there twice"),
    CASE(entry_cut, FORMAT, "truncated"),
    CASE(entry_without_offset, FORMAT, "truncated"),
    CASE(dims_5, FORMAT, "'a' has 5 dimensions"),
    CASE(dims_max, FORMAT, "dimensions"),
    CASE(dims_zero, FORMAT, "dimension 0 of size 0"),
    CASE(dims_negative, FORMAT, "dimension 0"),
    CASE(dims_wrap, FORMAT, "too large"),
    CASE(dims_wrap_4, FORMAT, "too large"),
    CASE(bytes_wrap, FORMAT, "too large"),
    CASE(padding_wraps, FORMAT, "too large"),
    CASE(rows_not_blocks, FORMAT, "not a multiple of 32"),
    CASE(rows_not_super_blocks, FORMAT, "not a multiple of 256"),
    CASE(type_removed_4, UNSUPPORTED, "removed type 4"),
    CASE(type_removed_5, UNSUPPORTED, "removed type 5"),
    CASE(type_removed_31, UNSUPPORTED, "removed type 31"),
    CASE(type_removed_33, UNSUPPORTED, "removed type 33"),
    CASE(type_removed_36, UNSUPPORTED, "removed type 36"),
    CASE(type_removed_38, UNSUPPORTED, "removed type 38"),
    CASE(type_unknown, UNSUPPORTED, "unknown type 43"),
    CASE(type_negative, FORMAT, "unknown type"),
    CASE(offset_misaligned, FORMAT, "not a multiple of the alignment 32"),
    CASE(offset_overlaps, FORMAT, "'b' has offset 0 and overlaps"),
    CASE(offset_overlaps_partly, FORMAT, "'b' has offset 32 and overlaps"),
    CASE(offset_gap, FORMAT, "'b' has offset 128"),
    CASE(offset_wraps, FORMAT, "'b' has offset 18446744073709551584"),
    CASE(offset_max, FORMAT, "not a multiple of the alignment"),
    CASE(offsets_out_of_order, FORMAT, "'a' has offset 64"),
    CASE(first_offset_not_0, FORMAT, "'a' has offset 32"),
    CASE(sizes_wrap_together, FORMAT, "'b' of 9223372036854775808 bytes"),
    CASE(data_missing, FORMAT, "truncated"),
    CASE(data_cut, FORMAT, "truncated"),
    CASE(data_larger_than_file, FORMAT, "truncated"),
    CASE(last_tensor_cut, FORMAT, "'b' of 64 bytes"),
    CASE(tensor_count_max_allowed, FORMAT, "'blk.77.weight' is there twice"),
    CASE(shard_without_its_name, FORMAT, "one of 3 shards"),
    CASE(shard_count_negative, FORMAT, "'split.count' is -3, but should be 1"),
#undef CASE
};

static double milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* How far opening the file raises the peak of a fresh process, which inherits none of ours. */
static long peak_growth_kib(const char *path)
{
    int pipes[2];
    long grew = -1;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        struct rusage before, after;
        nb_gguf *g;
        getrusage(RUSAGE_SELF, &before);
        nb_status status = nb_gguf_open(path, &g, NULL);
        getrusage(RUSAGE_SELF, &after);
        grew = after.ru_maxrss - before.ru_maxrss;
        bool told = write(pipes[1], &grew, sizeof grew) == sizeof grew;
        _exit(status != NB_OK && told ? 0 : 1);
    }
    assert_int_equal(read(pipes[0], &grew, sizeof grew), sizeof grew);
    close(pipes[0]);
    close(pipes[1]);
    int code;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    return grew;
}

/* the fastest of three: other programs may run on this machine */
static double open_time(const char *path, nb_status *status, nb_error *err)
{
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        nb_gguf *g;
        double begin = milliseconds();
        *status = nb_gguf_open(path, &g, err);
        double took = milliseconds() - begin;
        best = took < best ? took : best;
        if (*status != NB_OK)
            assert_null(g);
        nb_gguf_close(g);
    }
    return best;
}

static void hostile_files(void **state)
{
    (void)state;
    char *directory = temporary_directory(), path[400], byte[480];
    assert_non_null(directory);
    snprintf(path, sizeof path, "%s/hostile.gguf", directory);
    assert_true(sizeof cases / sizeof *cases >= 40);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        builder x = {0};
        nb_error err = {0};
        nb_status status;
        cases[i].build(&x);
        assert_true(builder_save(&x, path));
        nb_buf_free(&x.b);
        double took = open_time(path, &status, &err);
        long grew = peak_growth_kib(path);
        snprintf(byte, sizeof byte, "%s: byte %zu: ", path, x.bad);
        bool says = strstr(err.message, byte) && strstr(err.message, cases[i].says) && strpbrk(err.message, ";");
        if (status != cases[i].status || err.code != status || !says)
            fail_msg("%s: expected status %d, '%s' and '%s', got %d and: %s", cases[i].name, cases[i].status, byte,
                     cases[i].says, status, err.message);
        /* an emulated or instrumented processor is several times slower: the limit is the release build's */
        if (took > (NB_TEST_SLOW ? 1000 : 100) || grew > 64 * 1024)
            fail_msg("%s: took %.1f ms and %ld KiB", cases[i].name, took, grew);
        unlink(path);
    }
    rmdir(directory);
}

/* a good file, cut at every byte: an error or, once the last tensor is whole, a file */
static void every_truncation(void **state)
{
    (void)state;
    builder x = {0};
    char *directory = temporary_directory(), path[400];
    assert_non_null(directory);
    snprintf(path, sizeof path, "%s/cut.gguf", directory);
    put_header(&x, 3, 2, 3);
    put_key_array(&x, "tokens", STRING, 2);
    put_str(&x, "a");
    put_str(&x, "bc");
    put_key(&x, "f", FLOAT);
    put_u32(&x, 0);
    put_key_array(&x, "scores", FLOAT, 2);
    put_u64(&x, 0);
    put_info(&x, "a", 32, 2, Q4_0, 0);
    put_info(&x, "b", 3, 0, F32, 64);
    put_data(&x, 32, 64 + 12);
    for (size_t n = 0; n <= x.b.len; n++) {
        builder cut = {.b = {.data = x.b.data, .len = n}};
        nb_gguf *g;
        nb_error err = {0};
        assert_true(builder_save(&cut, path));
        nb_status status = nb_gguf_open(path, &g, &err);
        assert_int_equal(status, n == x.b.len ? NB_OK : NB_ERR_FORMAT);
        if (status != NB_OK)
            assert_non_null(strstr(err.message, "byte "));
        nb_gguf_close(g);
    }
    nb_buf_free(&x.b);
    unlink(path);
    rmdir(directory);
}

static void refuses(const char *path, const char *says)
{
    nb_gguf *g;
    nb_error err = {0};
    double begin = milliseconds();
    assert_int_not_equal(nb_gguf_open(path, &g, &err), NB_OK);
    assert_true(milliseconds() - begin < 100);
    assert_null(g);
    if (!strstr(err.message, path) || !strstr(err.message, says))
        fail_msg("'%s' expected, got: %s", says, err.message);
}

static void not_regular_files(void **state)
{
    (void)state;
    char *directory = temporary_directory(), path[400];
    assert_non_null(directory);
    refuses(directory, "directory");
    snprintf(path, sizeof path, "%s/fifo.gguf", directory);
    assert_int_equal(mkfifo(path, 0600), 0);
    refuses(path, "FIFO"); /* and does not wait for a writer */
    unlink(path);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.90s/s", directory);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    refuses(address.sun_path, "socket");
    close(fd);
    unlink(address.sun_path);
    refuses("/dev/zero", "device");
    refuses("/dev/random", "device");
    refuses("/dev/null", "device");
    snprintf(path, sizeof path, "%s/none.gguf", directory);
    refuses(path, "check the path");
    rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_files),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(not_regular_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
