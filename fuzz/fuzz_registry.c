/* What registries and hubs say, of any bytes: challenges, ranges, ETags, tokens, keys, records of downloads, names and lists of
 * files. Refused, or such that what is used stays within the text, within a file's size and within a folder. The first byte
 * chooses which. */
#include <stdlib.h>
#include <string.h>

#include "registry/fields.h"
#include "registry/hub.h"
#include "registry/partial.h"
#include "registry/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(nb_str part, nb_str text)
{
    if (part.n && (part.p < text.p || part.p + part.n > text.p + text.n))
        abort();
}

static void fuzz_fields(nb_str text)
{
    nb_challenge c;
    nb_range r;
    nb_str etag;
    uint64_t n;
    size_t at;
    unsigned number, count;
    if (nb_challenge_parse(text, &c)) {
        within(c.realm, text);
        within(c.service, text);
        within(c.scope, text);
        if (c.realm.n == 0)
            abort();
    }
    if (nb_range_parse(text, &r) && (r.first > r.last || r.last >= r.total))
        abort();
    if (nb_upload_range_parse(text, &n) && n == 0)
        abort();
    nb_length_parse(text, &n);
    if (nb_etag_parse(text, &etag)) {
        within(etag, text);
        if (etag.n == 0 || memchr(etag.p, '/', etag.n) || *etag.p == '.')
            abort();
    }
    if (nb_shard_parse(text, &at, &number, &count) && (at + 14 > text.n || number == 0 || number > count))
        abort();
}

/* no part of it is empty, . or .. */
static void check_path(nb_str path)
{
    for (size_t i = 0, from = 0; i <= path.n; i++)
        if (i == path.n || path.p[i] == '/') {
            nb_str part = {path.p + from, i - from};
            if (part.n == 0 || nb_str_eqz(part, ".") || nb_str_eqz(part, "..") || memchr(part.p, 0, part.n))
                abort();
            from = i + 1;
        }
}

static void fuzz_names(nb_str text)
{
    nb_hub_spec spec;
    nb_error err = {0};
    if (nb_hub_parse(text, &spec, &err) != NB_OK) {
        if (!err.message[0])
            abort();
        return;
    }
    check_path(spec.user);
    check_path(spec.repo);
    check_path(spec.revision);
    if (spec.file.n)
        check_path(spec.file);
    if (memchr(spec.user.p, '/', spec.user.n) || memchr(spec.repo.p, '/', spec.repo.n))
        abort();
}

static void fuzz_info(nb_str text)
{
    nb_arena arena = {.limit = 64 << 20};
    nb_hub_info info;
    size_t *chosen, count;
    bool single;
    if (nb_hub_info_parse(text, &arena, &info, NULL) == NB_OK) {
        for (size_t i = 0; i < info.count; i++)
            check_path(info.files[i].name);
        nb_str wanted[] = {{0}, info.count ? info.files[0].name : NB_STR("x.gguf")};
        for (size_t w = 0; w < 2; w++)
            if (nb_hub_choose(&info, wanted[w], &arena, &chosen, &count, &single, NULL) == NB_OK)
                for (size_t i = 0; i < count; i++)
                    if (count > info.count || chosen[i] >= info.count)
                        abort();
    }
    nb_arena_free(&arena);
}

static void fuzz_record(nb_str text)
{
    static const uint64_t sizes[] = {0, 10, 4096, UINT64_MAX};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        nb_arena arena = {0};
        size_t count;
        uint64_t at = 0;
        const nb_part *parts = nb_partial_parse(text, sizes[s], &arena, &count);
        for (size_t i = 0; parts && i < count; at = parts[i++].end)
            if (parts[i].begin != at || parts[i].end <= at || parts[i].done > parts[i].end - parts[i].begin)
                abort();
        if (parts && at != sizes[s])
            abort();
        nb_arena_free(&arena);
    }
}

static void fuzz_tokens(nb_str text)
{
    nb_arena arena = {0};
    nb_str token;
    unsigned char seed[32];
    nb_buf half = {0};
    if (nb_token_parse(text, &arena, &token, NULL) == NB_OK)
        for (size_t i = 0; i < token.n; i++)
            if ((unsigned char)token.p[i] <= ' ' || (unsigned char)token.p[i] >= 0x7f)
                abort();
    nb_key_parse("fuzz", text, seed, &half, NULL);
    nb_buf_free(&half);
    nb_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    nb_str text = {(const char *)data + 1, size - 1};
    switch (data[0] % 5) {
    case 0: fuzz_fields(text); break;
    case 1: fuzz_names(text); break;
    case 2: fuzz_info(text); break;
    case 3: fuzz_record(text); break;
    case 4: fuzz_tokens(text); break;
    }
    return 0;
}
