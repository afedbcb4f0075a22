/* report_page.h - inside of reports: what was measured (report.c), and the page that shows it (report_page.c). */
#ifndef NB_MEASURE_REPORT_PAGE_H
#define NB_MEASURE_REPORT_PAGE_H

#include "measure/loss.h"
#include "measure/report.h"

enum {
    NB_REPORT_BINS = 121, /* odd: zero has a bin */
    NB_REPORT_PATCH = 48, /* rows and columns of the heat maps */
    NB_REPORT_NAME = 48
};

typedef struct nb_report_values { /* of the chosen tensor */
    float patch[NB_REPORT_PATCH * NB_REPORT_PATCH];
    double bins[NB_REPORT_BINS]; /* shares, in % */
    double limit;                /* bins cover -limit to limit */
    double rms;
} nb_report_values;

typedef struct nb_report_file {
    const char *path;
    char name[NB_REPORT_NAME]; /* short, for figures */
    bool directory;
    uint64_t file_bytes;
    nb_loss loss;
    nb_evaluation found;
    nb_report_values *values, *errors; /* of the chosen tensor */
} nb_report_file;

typedef struct nb_report {
    const nb_report_params *params;
    nb_source *base;
    uint64_t base_bytes;
    nb_report_file *files; /* [params->count] */
    nb_str tensor;
    size_t patch_rows, patch_columns;
    uint64_t sampled; /* values of the tensor that the histograms count */
    uint64_t tensor_values;
    nb_report_values *original;
    nb_arena arena;
} nb_report;

nb_str nb_report_name(const char *path); /* its last part */
/* The chosen tensor in a file. */
const nb_tensor_loss *nb_report_tensor(const nb_report *r, const nb_report_file *f);
/* The size of the loss that figures show: mean divergence, or without a text the tensors' relative squared error. */
double nb_report_loss(const nb_report *r, const nb_report_file *f);
/* No other file is smaller or as small, and better or as good. */
bool nb_report_on_frontier(const nb_report *r, size_t file);
void nb_report_page(const nb_report *r, nb_buf *html);

#endif
