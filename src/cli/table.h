/* table.h - columns as Ollama prints them: each as wide as its widest cell, four spaces behind it. Cells are what files and
 * servers say: control characters are shown as '?'. */
#ifndef NB_CLI_TABLE_H
#define NB_CLI_TABLE_H

#include <stdio.h>

#include "base/mem.h"

enum { NB_TABLE_COLUMNS = 16 };

typedef struct nb_table {
    nb_arena arena;
    struct nb_table_row *first, *last;
    bool headed; /* the first row is a heading */
    bool failed;
} nb_table;

/* cells: `count` of them, at most NB_TABLE_COLUMNS; texts are copied */
void nb_table_row(nb_table *t, const nb_str *cells, size_t count);
nb_status nb_table_print(nb_table *t, FILE *out, nb_error *err); /* frees it */

/* "1.3 GB", "274 MB", "512 B": decimal, one digit behind the point below 10. */
void nb_human_bytes(uint64_t bytes, char text[24]);
/* "2 hours ago", "4 minutes from now", "Forever" (20 years ahead); seconds: until then */
void nb_human_time(double seconds, char text[48]);
/* "2026-11-23T04:05:06.123Z", "...+02:00" as seconds since 1970; false: it is no time. */
bool nb_time_parse(const char *text, double *seconds);

#endif
