/* Every kind of damaged or malicious checkpoint gets an error that names the file, the byte and a remedy, within 100 ms and
 * 64 MiB; nothing that a pickle names is ever run. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "checkpoint_builder.h"
#include "format/checkpoint.h"

/* ---- safetensors: what only a header says ---- */

#define T(name, dtype, shape, begin, end)                                                                              \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"

static const struct header_case {
    const char *name, *header; /* '@': the byte that the error names */
    size_t data;
    nb_status status;
    const char *says;
} headers[] = {
    {"empty header", "@", 0, NB_ERR_FORMAT, "does not begin with '{'"},
    {"array", "@[]", 0, NB_ERR_FORMAT, "does not begin with '{'"},
    {"space first", "@ {}", 0, NB_ERR_FORMAT, "does not begin with '{'"},
    {"cut", "{\"a\":@", 0, NB_ERR_FORMAT, "the JSON ends where an object"},
    {"cut in a string", "{\"a@", 0, NB_ERR_FORMAT, "the end of a string"},
    {"two values", "{}@{}", 0, NB_ERR_FORMAT, "'{' where the end"},
    {"zeros behind", "{}@\1", 0, NB_ERR_FORMAT, "byte 01 where the end"},
    {"no comma", "{" T("a", "U8", "1", "0", "1") "@" T("b", "U8", "1", "1", "2") "}", 2, NB_ERR_FORMAT, "',' or '}'"},
    {"comma last", "{" T("a", "U8", "1", "0", "1") ",@}", 1, NB_ERR_FORMAT, "a key"},
    {"no quotes", "{@a:1}", 0, NB_ERR_FORMAT, "a key"},
    {"single quotes", "{@'a':1}", 0, NB_ERR_FORMAT, "a key"},
    {"number as entry", "{\"a\":@1}", 0, NB_ERR_FORMAT, "an object"},
    {"control byte in a name", "{\"a@\1\":1}", 0, NB_ERR_FORMAT, "control byte 01"},
    {"not UTF-8", "{\"a@\xff\":1}", 0, NB_ERR_FORMAT, "not UTF-8"},
    {"overlong UTF-8", "{\"@\xc0\xaf\":1}", 0, NB_ERR_FORMAT, "not UTF-8"},
    {"surrogate in UTF-8", "{\"@\xed\xa0\x80\":1}", 0, NB_ERR_FORMAT, "not UTF-8"},
    {"half a surrogate", "{\"@\\ud800\":1}", 0, NB_ERR_FORMAT, "escape"},
    {"unknown escape", "{\"@\\x41\":1}", 0, NB_ERR_FORMAT, "escape"},
    {"short escape", "{\"@\\u00\":1}", 0, NB_ERR_FORMAT, "escape"},
    {"empty name", "{@\"\":{}}", 0, NB_ERR_FORMAT, "is empty"},
    {"escaped zero in a name", "{@\"a\\u0000b\":{}}", 0, NB_ERR_FORMAT, "printable"},
    {"terminal escape in a name", "{@\"\\u001b[2J\":{}}", 0, NB_ERR_FORMAT, "printable"},
    {"no dtype", "{@\"a\":{\"shape\":[],\"data_offsets\":[0,0]}}", 0, NB_ERR_FORMAT, "no dtype"},
    {"no shape", "{@\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", 0, NB_ERR_FORMAT, "no shape"},
    {"no offsets", "{@\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 0, NB_ERR_FORMAT, "no data_offsets"},
    {"dtype twice", "{\"a\":{\"dtype\":\"U8\",@\"dtype\":\"F64\"}}", 0, NB_ERR_FORMAT, "'dtype' twice"},
    {"shape twice", "{\"a\":{\"shape\":[1],@\"shape\":[2]}}", 0, NB_ERR_FORMAT, "'shape' twice"},
    {"offsets twice", "{\"a\":{\"data_offsets\":[0,1],@\"data_offsets\":[0,2]}}", 0, NB_ERR_FORMAT, "twice"},
    {"unknown dtype", "{\"a\":{\"dtype\":@\"Q4\"}}", 0, NB_ERR_UNSUPPORTED, "'Q4'"},
    {"complex", "{\"a\":{\"dtype\":@\"C64\"}}", 0, NB_ERR_UNSUPPORTED, "'C64'"},
    {"dtype in small letters", "{\"a\":{\"dtype\":@\"f32\"}}", 0, NB_ERR_UNSUPPORTED, "'f32'"},
    {"dtype a number", "{\"a\":{\"dtype\":@5}}", 0, NB_ERR_FORMAT, "a string"},
    {"negative size", "{\"a\":{\"shape\":[@-1]}}", 0, NB_ERR_FORMAT, "-1 is not a whole number"},
    {"fraction", "{\"a\":{\"shape\":[@1.5]}}", 0, NB_ERR_FORMAT, "1.5 is not a whole number"},
    {"exponent", "{\"a\":{\"shape\":[@1e3]}}", 0, NB_ERR_FORMAT, "1e3 is not a whole number"},
    {"leading zero", "{\"a\":{\"shape\":[@01]}}", 0, NB_ERR_FORMAT, "begins with 0"},
    {"beyond 64 bits", "{\"a\":{\"shape\":[@18446744073709551616]}}", 0, NB_ERR_FORMAT, "not a whole number"},
    {"size a string", "{\"a\":{\"shape\":[@\"1\"]}}", 0, NB_ERR_FORMAT, "a number"},
    {"nine dimensions", "{@\"a\":{\"shape\":[1,1,1,1,1,1,1,1,1]}}", 0, NB_ERR_UNSUPPORTED, "8 dimensions"},
    {"sizes wrap", "{@" T("a", "F32", "4294967296,4294967296", "0", "0") "}", 0, NB_ERR_FORMAT, "too large"},
    {"sizes wrap behind a zero", "{@" T("a", "F32", "0,4294967296,4294967296", "0", "0") "}", 0, NB_ERR_FORMAT,
     "too large"},
    {"bytes wrap", "{@" T("a", "F64", "4611686018427387904", "0", "0") "}", 0, NB_ERR_FORMAT, "too large"},
    {"one offset", "{@\"a\":{\"data_offsets\":[0]}}", 0, NB_ERR_FORMAT, "1 data_offsets"},
    {"three offsets", "{@\"a\":{\"data_offsets\":[0,1,2]}}", 0, NB_ERR_FORMAT, "3 data_offsets"},
    {"end before begin", "{@" T("a", "U8", "4", "8", "4") "}", 8, NB_ERR_FORMAT, "before it begins"},
    {"too few bytes", "{@" T("a", "F32", "4", "0", "4") "}", 4, NB_ERR_FORMAT,
     "has 4 bytes, but its shape and dtype F32 make 16"},
    {"too many bytes", "{@" T("a", "F16", "2", "0", "8") "}", 8, NB_ERR_FORMAT, "make 4"},
    {"past the end", "{@" T("a", "U8", "9", "0", "9") "}", 8, NB_ERR_FORMAT,
     "ends at 9 of the data, but the file has 8"},
    {"far past the end", "{@" T("a", "U8", "1", "18446744073709551614", "18446744073709551615") "}", 8, NB_ERR_FORMAT,
     "truncated"},
    {"overlap", "{" T("a", "U8", "4", "0", "4") ",@" T("b", "U8", "4", "2", "6") "}", 6, NB_ERR_FORMAT, "overlapping"},
    {"same bytes", "{" T("a", "U8", "4", "0", "4") ",@" T("b", "U8", "4", "0", "4") "}", 4, NB_ERR_FORMAT,
     "overlapping"},
    {"hole", "{" T("a", "U8", "4", "0", "4") ",@" T("b", "U8", "4", "8", "12") "}", 12, NB_ERR_FORMAT, "a hole behind"},
    {"hole first", "{@" T("a", "U8", "4", "4", "8") "}", 8, NB_ERR_FORMAT, "a hole behind"},
    {"name twice", "{" T("a", "U8", "4", "0", "4") "," T("a", "U8", "4", "4", "8") "}", 8, NB_ERR_FORMAT,
     "is there twice"},
    {"metadata twice", "{\"__metadata__\":{},@\"__metadata__\":{}}", 0, NB_ERR_FORMAT, "__metadata__ is there twice"},
    {"metadata key twice", "{\"__metadata__\":{\"a\":\"1\",@\"a\":\"2\"}}", 0, NB_ERR_FORMAT, "there twice"},
    {"metadata a number", "{\"__metadata__\":{\"a\":@1}}", 0, NB_ERR_FORMAT, "a string"},
    {"metadata nested", "{\"__metadata__\":{\"a\":@{}}}", 0, NB_ERR_FORMAT, "a string"},
    {"word cut", "{\"a\":{\"x\":@tru}}", 0, NB_ERR_FORMAT, "true"},
    {"NaN", "{\"a\":{\"x\":@NaN}}", 0, NB_ERR_FORMAT, "a value"},
    {"bare point", "{\"a\":{\"x\":1.@}}", 0, NB_ERR_FORMAT, "a digit"},
};

/* ---- safetensors: the rest ---- */

static void length_cut(builder *x)
{
    put_bytes(x, "\1\0\0\0\0", 5);
    mark(x);
}
static void length_max(builder *x)
{
    put_u64(x, UINT64_MAX);
    put_op(x, "{}");
}
static void length_past_the_end(builder *x)
{
    put_u64(x, 3);
    put_op(x, "{}");
}
static void length_over_limit(builder *x)
{
    put_u64(x, 100000000);
    put_op(x, "{");
    x->file_bytes = 200000000;
}
static void nested_deep(builder *x)
{
    put_u64(x, 100006);
    put_op(x, "{\"a\":");
    for (int i = 0; i < 100001; i++) {
        if (i == 0)
            put_op(x, "{\"b\":");
        else
            put_op(x, "[");
        if (i == 62)
            mark(x);
    }
    x->b.data[0] = (char)(x->b.len - 8), x->b.data[1] = (char)((x->b.len - 8) >> 8),
    x->b.data[2] = (char)((x->b.len - 8) >> 16);
}
static void trailing_data(builder *x)
{
    put_safetensors(x, "{" T("a", "U8", "4", "0", "4") "}", 4);
    mark(x);
    put_op(x, "hidden");
}
static void name_too_long(builder *x)
{
    put_u64(x, 2 + 513 + 3);
    put_op(x, "{");
    mark(x);
    put_op(x, "\"");
    for (int i = 0; i < 513; i++)
        put_op(x, "n");
    put_op(x, "\":{}");
    x->b.data[0] = (char)(x->b.len - 8);
}
static void put_many(builder *x, int n) /* as many tensors as that, the last one a second time "t0" */
{
    put_u64(x, 0);
    put_op(x, "{");
    for (int i = 0; i < n; i++) {
        nb_buf_printf(&x->b, "%s", i ? "," : "");
        mark(x);
        nb_buf_printf(&x->b, "\"t%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", i == n - 1 ? 0 : i);
    }
    put_op(x, "}");
    uint64_t length = x->b.len - 8;
    memcpy(x->b.data, &length, 8);
}
static void tensors_max(builder *x) { put_many(x, 1 << 17); }
static void tensors_over_limit(builder *x) { put_many(x, (1 << 17) + 1); }
static void metadata_keys(builder *x)
{
    put_u64(x, 0);
    put_op(x, "{");
    mark(x);
    put_op(x, "\"__metadata__\":{");
    for (int i = 0; i < 20000; i++)
        nb_buf_printf(&x->b, "%s\"%d\":\"\"", i ? "," : "", i);
    put_op(x, "}}");
    uint64_t length = x->b.len - 8;
    memcpy(x->b.data, &length, 8);
}
static void empty_file(builder *x) { mark(x); }
static void lfs_pointer(builder *x) { put_op(x, "version https://git-lfs.github.com/spec/v1\n"); }
static void web_page(builder *x) { put_op(x, "<!DOCTYPE html><html>"); }
static void gguf(builder *x) { put_bytes(x, "GGUF\3\0\0\0", 8); }

/* ---- the zip archive ---- */

static zip_entry entry(const char *name, const char *text)
{
    return (zip_entry){.name = name, .data = text, .bytes = strlen(text)};
}
static void put_two(builder *x, zip_entry a, zip_entry b, bool mark_directory)
{
    zip_entry e[] = {a, b};
    put_zip(x, e, 2);
    x->bad = mark_directory ? e[1].central_at : e[1].at - 30 - strlen(b.local ? b.local : b.name);
}
#define PICKLE entry("m/data.pkl", "\x80\x02}.")
#define WITH(...) ((zip_entry){.name = "m/data/0", .data = "floats", .bytes = 6, __VA_ARGS__})

static void zip_without_end(builder *x)
{
    put_bytes(x, "PK\3\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 30);
    mark(x);
}
static void zip_empty(builder *x) { put_zip_end(x, 0, 0, 0); }
static void zip_disks(builder *x)
{
    put_zip_end(x, 0, 0, 0);
    x->b.data[4] = 1;
    x->bad = 4;
}
static void zip_directory_past_end(builder *x) { put_zip_end(x, 0, 1, 4); }
static void zip_too_many(builder *x) { put_zip_end(x, 7, 0, 0); }
static void zip_directory_damaged(builder *x)
{
    put_data(x, 1, 46);
    memcpy(x->b.data, "PK\3\4", 4);
    put_zip_end(x, 1, 0, 46);
}
static void zip_name_cut(builder *x)
{
    put_bytes(x, "PK\1\2", 4);
    put_data(x, 1, 42);
    x->b.data[28] = 99;
    put_zip_end(x, 1, 0, 46);
}
static void zip_compressed(builder *x) { put_two(x, PICKLE, WITH(.method = 8), true); }
static void zip_encrypted(builder *x) { put_two(x, PICKLE, WITH(.flags = 1), true); }
static void zip_two_sizes(builder *x) { put_two(x, PICKLE, WITH(.packed = 3), true); }
static void zip_begin_outside(builder *x) { put_two(x, PICKLE, WITH(.begin = 0x70000000), true); }
static void zip_begin_elsewhere(builder *x) { put_two(x, PICKLE, WITH(.begin = 5), true); }
static void zip_begin_of_other(builder *x)
{
    put_two(x, PICKLE, WITH(.begin = 44), true);
    x->bad = 44;
    memcpy(x->b.data + 44, "PK\3\4", 4);
    x->b.data[44 + 30] = 'x';
}
static void zip_other_name(builder *x) { put_two(x, PICKLE, WITH(.local = "m/data/1"), false); }
static void zip_zip64_missing(builder *x) { put_two(x, PICKLE, WITH(.packed = UINT32_MAX), true); }
static void zip_zip64_cut(builder *x)
{
    put_two(x, PICKLE, WITH(.packed = UINT32_MAX, .extra = "\1\0\4\0abcd", .extra_bytes = 8), true);
}
static void zip_zip64_huge(builder *x)
{
    put_two(x, PICKLE,
            WITH(.packed = UINT32_MAX, .extra = "\1\0\x8\0\xff\xff\xff\xff\xff\xff\xff\xff", .extra_bytes = 12), true);
}
static void zip_locator_lost(builder *x)
{
    put_data(x, 1, 80);
    memcpy(x->b.data, "PK\3\4", 4);
    mark(x);
    put_bytes(x, "PK\6\7\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f\1\0\0\0", 20);
    put_zip_end(x, 0, 0, 0);
}
static void zip_past_directory(builder *x)
{
    put_two(x, PICKLE, WITH(.packed = 0), true);
    size_t at = x->bad;
    x->b.data[at + 20] = x->b.data[at + 24] = 120;
}
static void zip_overlap(builder *x)
{
    zip_entry e[] = {PICKLE, WITH(.packed = 0)};
    put_zip(x, e, 2);
    x->b.data[e[0].central_at + 20] = x->b.data[e[0].central_at + 24] = 10;
    x->bad = e[1].begin;
}
static void zip_name_twice(builder *x) { put_two(x, entry("m/x", "1"), entry("m/x", "2"), false); }
static void zip_name_control(builder *x) { put_two(x, PICKLE, entry("m/\33[2J", "2"), true); }
static void zip_no_pickle(builder *x)
{
    put_two(x, entry("word/document.xml", "1"), entry("x", "2"), true);
    x->bad = 0;
}
static void zip_two_pickles(builder *x) { put_two(x, PICKLE, entry("n/data.pkl", "2"), false); }
static void zip_script(builder *x)
{
    put_two(x, PICKLE, entry("m/constants.pkl", "2"), true);
    x->bad = 0;
}
static void zip_big_endian(builder *x) { put_two(x, PICKLE, entry("m/byteorder", "big"), false); }
static void bare_pickle(builder *x) { put_bytes(x, "\x80\x04}.", 4); }
static void tar(builder *x)
{
    put_data(x, 1, 512);
    memcpy(x->b.data, "sys_info", 8);
    memcpy(x->b.data + 257, "ustar", 5);
}

/* ---- pickles ---- */

static void calls(builder *p, const char *module, const char *name)
{
    put_bytes(p, "\x80\x02", 2);
    mark(p);
    put_op(p, "c");
    put_op(p, module);
    put_op(p, "\n");
    put_op(p, name);
    put_op(p, "\n");
    put_text(p, "touch hacked");
    put_bytes(p, "\x85R.", 3);
}
static void os_system(builder *p) { calls(p, "os", "system"); }
static void posix_system(builder *p) { calls(p, "posix", "system"); }
static void builtins_eval(builder *p) { calls(p, "builtins", "eval"); }
static void builtin_exec(builder *p) { calls(p, "__builtin__", "exec"); }
static void subprocess(builder *p) { calls(p, "subprocess", "Popen"); }
static void getattr_builtin(builder *p) { calls(p, "__builtin__", "getattr"); }
static void torch_load(builder *p) { calls(p, "torch", "load"); }
static void numpy_rebuild(builder *p) { calls(p, "numpy.core.multiarray", "_reconstruct"); }
static void prefix_of_known(builder *p) { calls(p, "torch._utils", "_rebuild_tensor_v"); }
static void name_with_escapes(builder *p) { calls(p, "os\33[2J", "system"); }
static void stack_global(builder *p)
{
    put_bytes(p, "\x80\x04\x8c\2os\x94\x8c\6system\x94", 16);
    mark(p);
    put_bytes(p, "\x93\x94.", 3);
}
static void storage_called(builder *p)
{
    put_op(p, "ctorch\nFloatStorage\n)");
    mark(p);
    put_op(p, "R.");
}
static void name_without_end(builder *p)
{
    put_op(p, "c");
    for (int i = 0; i < 400; i++)
        put_op(p, "o");
}
static void op(builder *p, const char *before, const char *ops)
{
    put_op(p, before);
    mark(p);
    put_op(p, ops);
}
static void op_inst(builder *p) { op(p, "(", "ios\nsystem\n."); }
static void op_obj(builder *p) { op(p, "(ctorch\nSize\n", "o."); }
static void op_newobj(builder *p) { op(p, "ctorch\nSize\n)", "\x81."); }
static void op_newobj_ex(builder *p) { op(p, "ctorch\nSize\n)}", "\x92."); }
static void op_ext(builder *p) { op(p, "", "\x82\1."); }
static void op_text_int(builder *p) { op(p, "", "I1\n."); }
static void op_persid(builder *p) { op(p, "", "Pid\n."); }
static void op_buffer(builder *p) { op(p, "", "\x97."); }
static void op_unknown(builder *p) { op(p, "", "\xff."); }
static void protocol_6(builder *p) { op(p, "", "\x80\x06}."); }
static void protocol_1(builder *p) { op(p, "", "\x80\x01}."); }
static void no_stop(builder *p) { op(p, "}", ""); }
static void empty_pickle(builder *p) { op(p, "", ""); }
static void string_cut(builder *p) { op(p, "", "X\xff\xff\xff\x7f."); }
static void string_huge(builder *p) { op(p, "", "\x8d\xff\xff\xff\xff\xff\xff\xff\xff."); }
static void long_huge(builder *p) { op(p, "", "\x8b\xff\xff\xff\xff."); }
static void frame_past_end(builder *p) { op(p, "", "\x95\xff\xff\xff\x7f\x01\x01\x01\x01}."); }
static void memo_absent(builder *p) { op(p, "", "h\7."); }
static void memo_huge(builder *p) { op(p, "N", "r\xff\xff\xff\xff."); }
static void memo_of_nothing(builder *p) { op(p, "", "q\1."); }
static void memo_of_mark(builder *p) { op(p, "(", "q\1."); }
static void stack_empty(builder *p) { op(p, "", "\x85."); }
static void stack_only_mark(builder *p) { op(p, "N(", "\x85."); }
static void no_mark(builder *p) { op(p, "NN", "t."); }
static void not_a_dictionary(builder *p) { op(p, "]NN", "s."); }
static void not_a_list(builder *p) { op(p, "}N", "a."); }
static void key_without_value(builder *p) { op(p, "}(N", "u."); }
static void pairs_without_value(builder *p) { op(p, "(NNN", "d."); }
static void call_of_nothing(builder *p) { op(p, "N)", "R."); }
static void call_without_tuple(builder *p) { op(p, "ctorch\nSize\nN", "R."); }
static void state_of_a_name(builder *p) { op(p, "ctorch\nSize\n}", "b."); }
static void left_on_stack(builder *p) { op(p, "N}", "."); }
static void more_behind_stop(builder *p) { op(p, "}", ".."); }
static void not_a_storage(builder *p) { op(p, "N\x85", "Q."); }
static void foreign_id(builder *p)
{
    put_op(p, "(");
    put_text(p, "module");
    op(p, "ctorch\nFloatStorage\nNNK\1t", "Q.");
}
static void root_list(builder *p)
{
    put_op(p, "].");
    p->bad = 0;
}
static void no_tensors(builder *p)
{
    put_op(p, "}.");
    p->bad = 0;
}

/* a dictionary of one tensor */
static void tensor(builder *p, const char *name, const char *key, int64_t values, int64_t offset, int64_t rows,
                   int64_t columns, int64_t row_step, int64_t column_step)
{
    put_op(p, "}");
    put_text(p, name);
    put_tensor(p, key, values, offset, rows, columns, row_step, column_step);
    put_op(p, "s.");
}
static void storage_lost(builder *p) { tensor(p, "a", "9", 6, 0, 2, 3, 3, 1); }
static void storage_climbs(builder *p) { tensor(p, "a", "../data.pkl", 1, 0, 1, 1, 1, 1); }
static void storage_too_short(builder *p) { tensor(p, "a", "0", 7, 0, 2, 3, 3, 1); }
static void storage_wraps(builder *p) { tensor(p, "a", "0", INT64_MAX, 0, 2, 3, 3, 1); }
static void view_past_end(builder *p) { tensor(p, "a", "0", 6, 0, 3, 3, 3, 1); }
static void view_offset_past_end(builder *p) { tensor(p, "a", "0", 6, 1, 2, 3, 3, 1); }
static void view_offset_huge(builder *p) { tensor(p, "a", "0", 6, INT64_MAX, 2, 3, 3, 1); }
static void view_wraps(builder *p) { tensor(p, "a", "0", 6, 0, INT64_MAX, 2, INT64_MAX, 1); }
static void view_stride_wraps(builder *p) { tensor(p, "a", "0", 6, 0, 3, 2, INT64_MAX, 1); }
static void view_empty_outside(builder *p) { tensor(p, "a", "0", 6, 7, 0, 2, 2, 1); }
static void view_repeats(builder *p) { tensor(p, "a", "0", 6, 0, 1 << 30, 6, 0, 1); }
static void view_negative(builder *p) { tensor(p, "a", "0", 6, 5, 2, 3, -3, 1); }
static void size_negative(builder *p) { tensor(p, "a", "0", 6, 0, -2, 3, 3, 1); }
static void offset_negative(builder *p) { tensor(p, "a", "0", 6, -1, 2, 3, 3, 1); }
static void tensor_name_control(builder *p) { tensor(p, "a\33[2J", "0", 6, 0, 2, 3, 3, 1); }
static void tensor_name_empty(builder *p) { tensor(p, "", "0", 6, 0, 2, 3, 3, 1); }
static void put_rebuild(builder *p, const char *args)
{
    put_op(p, "}");
    put_text(p, "a");
    put_op(p, "ctorch._utils\n_rebuild_tensor_v2\n(");
    put_storage(p, "FloatStorage", "0", 6);
    put_op(p, args);
    put_op(p, "t");
    mark(p);
    put_op(p, "Rs.");
}
static void tensor_without_storage(builder *p) { op(p, "ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNt", "R."); }
static void tensor_of_few(builder *p) { put_rebuild(p, "K\1"); }
static void tensor_dims_differ(builder *p) { put_rebuild(p, "J\1\1\1\1K\2K\3\x86K\1\x85\x89}"); }
static void tensor_nine_dims(builder *p)
{
    put_rebuild(p, "J\1\1\1\1(K\1K\1K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1K\1K\1t\x89}");
}
static void tensor_conjugate(builder *p) { put_rebuild(p, "M\1\1K\2\x85K\1\x85\x89}}X\4\1\1\1"); }
static void untyped_without_dtype(builder *p)
{
    put_op(p, "}");
    put_text(p, "a");
    put_op(p, "ctorch._utils\n_rebuild_tensor_v2\n(");
    put_storage(p, "UntypedStorage", "0", 24);
    put_op(p, "K\1K\2\x85K\1\x85\x89}t");
    mark(p);
    put_op(p, "Rs.");
}
static void tensor_twice(builder *p)
{
    put_op(p, "}(");
    put_text(p, "a");
    put_tensor(p, "0", 6, 0, 2, 3, 3, 1);
    put_text(p, "a");
    put_tensor(p, "0", 6, 0, 2, 3, 3, 1);
    put_op(p, "u.");
}
static void nested_dictionaries(builder *p)
{
    for (int i = 0; i < 30; i++) {
        put_op(p, "}");
        put_text(p, "k");
    }
    put_op(p, "}");
    for (int i = 0; i < 30; i++)
        put_op(p, "s");
    put_op(p, ".");
    p->bad = 0;
}
static void dictionary_in_itself(builder *p)
{
    put_op(p, "}q\1");
    for (int i = 0; i < 3; i++) {
        put_text(p, i == 0 ? "x" : i == 1 ? "y" : "z");
        put_op(p, "h\1s");
    }
    put_op(p, ".");
    p->bad = 0;
}
static void dictionaries_double(builder *p) /* each holds the one before it 16 times: 2^56 ways to the first */
{
    put_op(p, "}q\1");
    for (int i = 0; i < 14; i++) {
        put_op(p, "0}(");
        for (char c = 'a'; c < 'q'; c++) {
            put_text(p, (char[]){c, 0});
            put_op(p, "h\1");
        }
        put_op(p, "uq\1");
    }
    put_op(p, ".");
    p->bad = 0;
}
static void objects_many(builder *p)
{
    nb_buf_reserve(&p->b, 8 << 20);
    for (int i = 0; i < 4000000; i++)
        nb_buf_add(&p->b, "]0", 2);
    put_op(p, "}.");
}
static void stack_many(builder *p)
{
    nb_buf_reserve(&p->b, 1 << 20);
    for (int i = 0; i < 1 << 20; i++)
        nb_buf_char(&p->b, 'N');
    p->bad = 1 << 17;
}
static void pickle_over_limit(builder *p)
{
    for (int i = 0; i < 9000; i++)
        put_data(p, 1, 1024);
}

typedef void build_fn(builder *x);

static const struct build_case {
    const char *name;
    build_fn *build;
    bool pickle, any_place; /* the byte is not told beforehand */
    nb_status status;
    const char *says;
} builds[] = {
#define FILE_(name, status, says)                                                                                      \
    {                                                                                                                  \
#name, name, false, false, NB_ERR_##status, says                                                               \
    }
#define PICK(name, status, says)                                                                                       \
    {                                                                                                                  \
#name, name, true, false, NB_ERR_##status, says                                                                \
    }
#define ANY(name, status, says)                                                                                        \
    {                                                                                                                  \
#name, name, true, true, NB_ERR_##status, says                                                                 \
    }
    FILE_(empty_file, FORMAT, "empty"),
    FILE_(lfs_pointer, FORMAT, "git lfs pull"),
    FILE_(web_page, FORMAT, "web page"),
    FILE_(gguf, FORMAT, "GGUF"),
    FILE_(length_cut, FORMAT, "truncated"),
    FILE_(length_max, FORMAT, "truncated"),
    FILE_(length_past_the_end, FORMAT, "truncated"),
    FILE_(length_over_limit, LIMIT, "of one file"),
    FILE_(nested_deep, LIMIT, "nests deeper than 64"),
    FILE_(trailing_data, FORMAT, "6 bytes follow the last tensor"),
    FILE_(name_too_long, FORMAT, "too long"),
    FILE_(tensors_over_limit, LIMIT, "more than 131072 tensors"),
    FILE_(metadata_keys, LIMIT, "more than 1024 keys"),
    FILE_(zip_without_end, FORMAT, "no zip directory"),
    FILE_(zip_empty, FORMAT, "no data.pkl"),
    FILE_(zip_disks, UNSUPPORTED, "several disks"),
    FILE_(zip_directory_past_end, FORMAT, "ends past its end record"),
    FILE_(zip_too_many, FORMAT, "do not fit"),
    FILE_(zip_directory_damaged, FORMAT, "no entry of the zip directory"),
    FILE_(zip_name_cut, FORMAT, "ends past it"),
    FILE_(zip_compressed, UNSUPPORTED, "compressed (method 8)"),
    FILE_(zip_encrypted, UNSUPPORTED, "encrypted"),
    FILE_(zip_two_sizes, FORMAT, "two sizes, 3 and 6"),
    FILE_(zip_begin_outside, FORMAT, "no zip entry is there"),
    FILE_(zip_begin_elsewhere, FORMAT, "no zip entry is there"),
    FILE_(zip_begin_of_other, FORMAT, "another name"),
    FILE_(zip_other_name, FORMAT, "another name"),
    FILE_(zip_zip64_missing, FORMAT, "64-bit sizes are missing"),
    FILE_(zip_zip64_cut, FORMAT, "64-bit sizes are missing"),
    FILE_(zip_zip64_huge, FORMAT, "two sizes"),
    FILE_(zip_locator_lost, FORMAT, "not where its locator says"),
    FILE_(zip_past_directory, FORMAT, "past the zip directory"),
    FILE_(zip_overlap, FORMAT, "overlap"),
    FILE_(zip_name_twice, FORMAT, "'m/x' is there twice"),
    FILE_(zip_name_control, FORMAT, "printable"),
    FILE_(zip_no_pickle, FORMAT, "no data.pkl"),
    FILE_(zip_two_pickles, FORMAT, "second data.pkl"),
    FILE_(zip_script, UNSUPPORTED, "TorchScript"),
    FILE_(zip_big_endian, UNSUPPORTED, "little-endian"),
    FILE_(bare_pickle, UNSUPPORTED, "bare pickle"),
    FILE_(tar, UNSUPPORTED, "tar form"),
    PICK(os_system, UNSUPPORTED, "'os.system', which rebuilds no tensor: nibble refuses to run it"),
    PICK(posix_system, UNSUPPORTED, "'posix.system'"),
    PICK(builtins_eval, UNSUPPORTED, "'builtins.eval'"),
    PICK(builtin_exec, UNSUPPORTED, "'__builtin__.exec'"),
    PICK(subprocess, UNSUPPORTED, "'subprocess.Popen'"),
    PICK(getattr_builtin, UNSUPPORTED, "'__builtin__.getattr'"),
    PICK(torch_load, UNSUPPORTED, "'torch.load'"),
    PICK(numpy_rebuild, UNSUPPORTED, "'numpy.core.multiarray._reconstruct'"),
    PICK(prefix_of_known, UNSUPPORTED, "'torch._utils._rebuild_tensor_v'"),
    PICK(name_with_escapes, UNSUPPORTED, "'os.system'"),
    PICK(stack_global, UNSUPPORTED, "'os.system'"),
    PICK(storage_called, UNSUPPORTED, "'torch.FloatStorage'"),
    PICK(name_without_end, FORMAT, "without an end"),
    PICK(op_inst, UNSUPPORTED, "INST"),
    PICK(op_obj, UNSUPPORTED, "OBJ"),
    PICK(op_newobj, UNSUPPORTED, "NEWOBJ"),
    PICK(op_newobj_ex, UNSUPPORTED, "NEWOBJ_EX"),
    PICK(op_ext, UNSUPPORTED, "EXT1"),
    PICK(op_text_int, UNSUPPORTED, "INT"),
    PICK(op_persid, UNSUPPORTED, "PERSID"),
    PICK(op_buffer, UNSUPPORTED, "NEXT_BUFFER"),
    PICK(op_unknown, FORMAT, "unknown opcode ff"),
    PICK(protocol_6, UNSUPPORTED, "protocol 6"),
    PICK(protocol_1, UNSUPPORTED, "protocol 1"),
    PICK(no_stop, FORMAT, "ends within"),
    PICK(empty_pickle, FORMAT, "ends within"),
    PICK(string_cut, FORMAT, "ends within"),
    PICK(string_huge, FORMAT, "ends within"),
    PICK(long_huge, FORMAT, "ends within"),
    PICK(frame_past_end, FORMAT, "frame"),
    PICK(memo_absent, FORMAT, "value 7"),
    PICK(memo_huge, LIMIT, "remembers more"),
    PICK(memo_of_nothing, FORMAT, "no value on the stack"),
    PICK(memo_of_mark, FORMAT, "no value on the stack"),
    PICK(stack_empty, FORMAT, "no value on the stack"),
    PICK(stack_only_mark, FORMAT, "no value on the stack"),
    PICK(no_mark, FORMAT, "no mark"),
    PICK(not_a_dictionary, FORMAT, "no dictionary"),
    PICK(not_a_list, FORMAT, "no list"),
    PICK(key_without_value, FORMAT, "key without a value"),
    PICK(pairs_without_value, FORMAT, "key without a value"),
    PICK(call_of_nothing, FORMAT, "no function"),
    PICK(call_without_tuple, FORMAT, "no function"),
    PICK(state_of_a_name, UNSUPPORTED, "sets the state"),
    PICK(left_on_stack, FORMAT, "more follows or is left"),
    PICK(more_behind_stop, FORMAT, "more follows or is left"),
    PICK(not_a_storage, FORMAT, "not a tensor's storage"),
    PICK(foreign_id, FORMAT, "not a tensor's storage"),
    PICK(root_list, UNSUPPORTED, "no dictionary of tensors"),
    PICK(no_tensors, FORMAT, "no tensors"),
    PICK(storage_lost, FORMAT, "not in the archive"),
    PICK(storage_climbs, FORMAT, "not in the archive"),
    PICK(storage_too_short, FORMAT, "24 bytes, but should have 28"),
    PICK(storage_wraps, FORMAT, "past its storage"),
    PICK(view_past_end, FORMAT, "past its storage of 6 values"),
    PICK(view_offset_past_end, FORMAT, "past its storage"),
    PICK(view_offset_huge, FORMAT, "past its storage"),
    PICK(view_wraps, FORMAT, "past its storage"),
    PICK(view_stride_wraps, FORMAT, "past its storage"),
    PICK(view_empty_outside, FORMAT, "past its storage"),
    PICK(view_repeats, LIMIT, "repeats 6 values 1073741824 times"),
    PICK(view_negative, FORMAT, "not made of storage"),
    PICK(size_negative, FORMAT, "not made of storage"),
    PICK(offset_negative, FORMAT, "not made of storage"),
    PICK(tensor_name_control, FORMAT, "printable"),
    PICK(tensor_name_empty, FORMAT, "is empty"),
    PICK(tensor_without_storage, FORMAT, "not made of storage"),
    PICK(tensor_of_few, FORMAT, "not made of storage"),
    PICK(tensor_dims_differ, FORMAT, "not made of storage"),
    PICK(tensor_nine_dims, FORMAT, "not made of storage"),
    ANY(tensor_conjugate, FORMAT, "ends within"),
    PICK(untyped_without_dtype, FORMAT, "not made of storage"),
    ANY(tensor_twice, FORMAT, "'a' is there twice"),
    PICK(nested_dictionaries, LIMIT, "deeper than 16"),
    PICK(dictionary_in_itself, LIMIT, "dictionaries"),
    PICK(dictionaries_double, LIMIT, "items in dictionaries"),
    ANY(objects_many, LIMIT, "more than 24 MiB of objects"),
    PICK(stack_many, LIMIT, "stacks more"),
    ANY(pickle_over_limit, LIMIT, "are read"),
    {"tensors_max", tensors_max, false, true, NB_ERR_FORMAT, "'t0' is there twice"},
};

/* ---- the measure ---- */

static double milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* nothing here waits; other programs may run on this machine */
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* How far opening the file raises the peak of a fresh process, which inherits none of ours. */
static long peak_growth_kib(const char *path)
{
    int pipes[2];
    long grew = -1;
    malloc_trim(0);
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        struct rusage before, after;
        nb_checkpoint *c;
        getrusage(RUSAGE_SELF, &before);
        nb_status status = nb_checkpoint_open(path, &c, NULL);
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

/* the fastest of three */
static double open_time(const char *path, nb_status *status, nb_error *err)
{
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        nb_checkpoint *c;
        double begin = milliseconds();
        *status = nb_checkpoint_open(path, &c, err);
        double took = milliseconds() - begin;
        best = took < best ? took : best;
        if (*status != NB_OK)
            assert_null(c);
        nb_checkpoint_close(c);
    }
    return best;
}

static void check(const char *name, builder *x, bool any_place, nb_status status, const char *says)
{
    nb_error err = {0};
    nb_status got;
    char path[400], byte[480];
    snprintf(path, sizeof path, "%s", nb_folder_path("hostile"));
    snprintf(byte, sizeof byte, any_place ? "%s: " : "%s: byte %zu: ", path, x->bad);
    assert_true(builder_save(x, path));
    nb_buf_free(&x->b);
    double took = open_time(path, &got, &err), limit = NB_TEST_SLOW ? 2000 : 100;
    long grew = peak_growth_kib(path);
    if (got != status || err.code != status || !strstr(err.message, byte) || !strstr(err.message, says) ||
        !strpbrk(err.message, ";,"))
        fail_msg("%s: expected status %d, '%s' and '%s', got %d and: %s", name, status, byte, says, got, err.message);
    if (took > limit || (!NB_TEST_SLOW && grew > 64 * 1024))
        fail_msg("%s: took %.1f ms and %ld KiB", name, took, grew);
    for (const char *c = err.message; *c; c++)
        assert_true(*c >= 0x20 && *c < 0x7f);
    unlink(path);
}

static void hostile_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        builder x = {0};
        put_safetensors(&x, headers[i].header, headers[i].data);
        check(headers[i].name, &x, !strchr(headers[i].header, '@'), headers[i].status, headers[i].says);
    }
}

static void hostile_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof builds / sizeof *builds; i++) {
        builder x = {0}, pickle = {0};
        builds[i].build(builds[i].pickle ? &pickle : &x);
        if (builds[i].pickle)
            put_torch(&x, &pickle);
        nb_buf_free(&pickle.b);
        check(builds[i].name, &x, builds[i].any_place, builds[i].status, builds[i].says);
    }
    assert_int_not_equal(access("hacked", F_OK), 0);
}

/* good files, cut at every byte */
static void every_truncation(void **state)
{
    (void)state;
    static const char *const names[] = {"dtypes.safetensors", "nested.bin", "protocol4.bin"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        nb_map map;
        nb_error err = {0};
        snprintf(path, sizeof path, NB_TEST_DATA "/format/%s", names[i]);
        assert_int_equal(nb_map_open(path, &map, &err), NB_OK);
        for (size_t n = 0; n < map.size; n += n < 64 || n + 64 > map.size ? 1 : 7) {
            builder x = {0};
            nb_checkpoint *c;
            put_bytes(&x, map.data, n);
            assert_true(builder_save(&x, nb_folder_path("cut")));
            nb_buf_free(&x.b);
            nb_status status = nb_checkpoint_open(nb_folder_path("cut"), &c, &err);
            if (status != NB_ERR_FORMAT || !strstr(err.message, "byte "))
                fail_msg("%s cut to %zu bytes: %d, %s", names[i], n, status, err.message);
        }
        nb_map_close(&map);
    }
    unlink(nb_folder_path("cut"));
}

static void refuses(const char *path, const char *says)
{
    nb_checkpoint *c;
    nb_error err = {0};
    double begin = milliseconds();
    assert_int_not_equal(nb_checkpoint_open(path, &c, &err), NB_OK);
    assert_true(milliseconds() - begin < 100);
    assert_null(c);
    if (!strstr(err.message, path) || !strstr(err.message, says))
        fail_msg("'%s' expected, got: %s", says, err.message);
}

static void not_regular_files(void **state)
{
    (void)state;
    char path[400];
    snprintf(path, sizeof path, "%s", nb_folder_path("model.safetensors"));
    assert_int_equal(mkfifo(path, 0600), 0);
    refuses(path, "FIFO"); /* and does not wait for a writer */
    nb_checkpoint *c;
    nb_error err = {0};
    assert_int_equal(nb_checkpoint_open(nb_folder, &c, &err), NB_ERR_IO);
    assert_non_null(strstr(err.message, "FIFO"));
    unlink(path);
    refuses("/dev/zero", "device");
    refuses("/dev/random", "device");
    refuses(nb_folder_path("none.safetensors"), "check the path");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_headers),
        cmocka_unit_test(hostile_files),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(not_regular_files),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
