#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

bool nb_buf_reserve(nb_buf *b, size_t extra)
{
    size_t need;
    if (b->failed || !nb_add(b->len, extra, &need) || !nb_add(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap)
        return true;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    char *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    b->data[b->len] = 0;
    return true;
}

void nb_buf_add(nb_buf *b, const void *bytes, size_t n)
{
    if (!nb_buf_reserve(b, n))
        return;
    if (n)
        memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
}

void nb_buf_str(nb_buf *b, nb_str s) { nb_buf_add(b, s.p, s.n); }
void nb_buf_z(nb_buf *b, const char *z) { nb_buf_add(b, z, strlen(z)); }
void nb_buf_char(nb_buf *b, char c) { nb_buf_add(b, &c, 1); }

void nb_buf_printf(nb_buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        b->failed = true;
    else if (nb_buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, format, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void nb_buf_utf8(nb_buf *b, uint32_t c)
{
    unsigned char u[4];
    size_t n;
    if (c < 0x80) {
        u[0] = (unsigned char)c;
        n = 1;
    } else if (c < 0x800) {
        u[0] = (unsigned char)(0xC0 | c >> 6);
        u[1] = (unsigned char)(0x80 | (c & 63));
        n = 2;
    } else if (c < 0x10000) {
        u[0] = (unsigned char)(0xE0 | c >> 12);
        u[1] = (unsigned char)(0x80 | (c >> 6 & 63));
        u[2] = (unsigned char)(0x80 | (c & 63));
        n = 3;
    } else {
        u[0] = (unsigned char)(0xF0 | (c >> 18 & 7));
        u[1] = (unsigned char)(0x80 | (c >> 12 & 63));
        u[2] = (unsigned char)(0x80 | (c >> 6 & 63));
        u[3] = (unsigned char)(0x80 | (c & 63));
        n = 4;
    }
    nb_buf_add(b, u, n);
}

void nb_buf_clear(nb_buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = 0;
}

void nb_buf_free(nb_buf *b)
{
    free(b->data);
    *b = (nb_buf){0};
}

struct nb_arena_block {
    struct nb_arena_block *next;
    size_t used, cap;
    bool zeroed; /* all that is not used yet */
    char bytes[];
};

enum { FIRST_BLOCK = 4000, LARGEST_BLOCK = 1 << 20 }; /* most arenas of a request stay within their first */

static size_t start_in(const struct nb_arena_block *block, size_t align)
{
    size_t bytes = (size_t)(uintptr_t)block->bytes;
    return nb_round_up(bytes + block->used, align) - bytes;
}

/* What is large has a block of its own, behind the one that is being filled. */
static struct nb_arena_block *add_block(nb_arena *a, size_t bytes, size_t align)
{
    size_t total, cap = a->head ? nb_min_size(a->head->cap * 2, LARGEST_BLOCK) : FIRST_BLOCK;
    bool alone = bytes > cap / 2;
    if (!nb_add(alone ? bytes : cap, align + sizeof(struct nb_arena_block), &total))
        return NULL;
    struct nb_arena_block *block = alone ? calloc(1, total) : malloc(total);
    if (!block)
        return NULL;
    struct nb_arena_block **at = alone && a->head ? &a->head->next : &a->head;
    *block = (struct nb_arena_block){.next = *at, .cap = total - sizeof *block, .zeroed = alone};
    *at = block;
    return block;
}

void *nb_arena_alloc(nb_arena *a, size_t bytes, size_t align)
{
    size_t total;
    if (!nb_add(a->used, bytes, &total) || (a->limit && total > a->limit))
        return NULL;
    struct nb_arena_block *block = a->head;
    size_t start = block ? start_in(block, align) : 0;
    if (!block || start > block->cap || block->cap - start < bytes) {
        block = add_block(a, bytes, align);
        if (!block)
            return NULL;
        start = start_in(block, align);
    }
    block->used = start + bytes;
    a->used = total;
    return block->zeroed ? block->bytes + start : memset(block->bytes + start, 0, bytes);
}

void *nb_arena_array(nb_arena *a, size_t count, size_t size)
{
    size_t bytes;
    return nb_mul(count, size, &bytes) ? nb_arena_alloc(a, bytes ? bytes : 1, 16) : NULL;
}

char *nb_arena_strdup(nb_arena *a, nb_str s)
{
    size_t bytes;
    char *copy = nb_add(s.n, 1, &bytes) ? nb_arena_alloc(a, bytes, 1) : NULL;
    if (copy && s.n)
        memcpy(copy, s.p, s.n);
    return copy;
}

void nb_arena_free(nb_arena *a)
{
    while (a->head) {
        struct nb_arena_block *next = a->head->next;
        free(a->head);
        a->head = next;
    }
    a->used = 0;
}

void *nb_pages_alloc(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= (4u << 20))
        madvise(p, bytes, MADV_HUGEPAGE);
#endif
    return p;
}

void nb_pages_free(void *p, size_t bytes)
{
    if (p)
        munmap(p, bytes);
}
