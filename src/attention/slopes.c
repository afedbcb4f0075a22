#include "attention/attention.h"

#include <math.h>

void nb_attention_slopes(int heads, double most, float *slopes)
{
    int n = 1;
    while (n <= heads / 2)
        n *= 2;
    for (int h = 0; h < heads; h++)
        slopes[h] = (float)(h < n ? exp2(-most * (h + 1) / n) : exp2(-most * (2 * (h - n) + 1) / (2 * n)));
}
