#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool nb_parse_bytes(const char *text, uint64_t *bytes)
{
    static const char units[] = "kMGT";
    char *end;
    errno = 0;
    double value = strtod(text, &end), factor = 1;
    const char *unit = *end ? strchr(units, *end == 'K' ? 'k' : *end) : NULL;
    for (const char *u = units; unit && u <= unit; u++)
        factor *= 1000;
    end += unit != NULL;
    if (errno != 0 || end == text || (*end != '\0' && strcmp(end, "B") != 0) || !(value > 0) ||
        value * factor >= 0x1p62)
        return false;
    *bytes = (uint64_t)(value * factor);
    return *bytes > 0;
}
