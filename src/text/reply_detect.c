#define _GNU_SOURCE /* memmem */
/* reply_detect.c - how a model's replies are written, by what its chat template writes. */
#include "text/reply_internal.h"
#include "text/template_probe.h"

static bool has(nb_str s, const char *needle) { return s.n && memmem(s.p, s.n, needle, strlen(needle)) != NULL; }

#define BIT(id) (1ull << NB_CALL_##id)

static nb_think think_of(nb_str s)
{
    for (int i = NB_THINK_NONE + 1; i < NB_THINKS; i++) {
        nb_str open = nb_think_rows[i].open, close = nb_think_rows[i].close;
        if (memmem(s.p, s.n, open.p, open.n) || memmem(s.p, s.n, close.p, close.n))
            return (nb_think)i;
    }
    return NB_THINK_NONE;
}

static uint64_t calls_of(nb_str s)
{
    static const struct {
        const char *needle;
        uint64_t bits;
    } rules[] = {
        {"<|python_tag|>", BIT(PYTHON) | BIT(BARE) | BIT(FUNCTION)},
        {"<|tool|>", BIT(PHI) | BIT(FUNCTOOLS)}, /* Phi 4 shows tools so, and no calls */
        {"<|tool_list_start|>", BIT(LFM)},
        {"List of tools: [", BIT(LFM)},
        {"｜DSML｜", BIT(DSML)},
        {"Environment: ipython", BIT(PYTHON) | BIT(BARE) | BIT(FUNCTION)},
    };
    uint64_t bits = 0;
    for (int i = 0; i < NB_CALL_SYNTAXES; i++) {
        nb_str open = nb_call_rows[i].open;
        if (i != NB_CALL_FENCE && open.n && memmem(s.p, s.n, open.p, open.n))
            bits |= 1ull << i;
    }
    if (!has(s, "```json"))
        bits &= ~BIT(ACTION);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        bits |= has(s, rules[i].needle) ? rules[i].bits : 0;
    if (bits & BIT(TAG))
        bits |= BIT(FUNCTION); /* Qwen3-Coder forgets the tag around it */
    return bits;
}

/* ---- Go templates ---- */

/* The first text behind the action that asks for .ToolCalls, up to a brace: what the model will write before a call. */
static nb_str go_prefix(nb_str s)
{
    bool asked = false;
    while (s.n) {
        const char *open = memmem(s.p, s.n, "{{", 2);
        nb_str text = {s.p, open ? (size_t)(open - s.p) : s.n};
        const char *brace = memchr(text.p, '{', text.n);
        if (brace)
            text.n = (size_t)(brace - text.p);
        while (text.n && nb_reply_space(text.p[0]))
            text.p++, text.n--;
        while (text.n && nb_reply_space(text.p[text.n - 1]))
            text.n--;
        if (asked && (text.n || brace))
            return text;
        const char *close = open ? memmem(open, s.n - (size_t)(open - s.p), "}}", 2) : NULL;
        if (!close)
            break;
        nb_str action = {open, (size_t)(close - open) + 2};
        if (asked && !has(action, "range") && !has(action, "if ") && !has(action, "end") && !has(action, ":="))
            break; /* a value stands first: there is no prefix */
        asked |= nb_go_mentions(action, "ToolCalls") && has(action, "if");
        s = (nb_str){close + 2, s.n - (size_t)(close + 2 - s.p)};
    }
    return NB_STR("");
}

static void detect_go(nb_str s, nb_reply_format *f)
{
    nb_str prefix = go_prefix(s);
    if (!nb_go_mentions(s, "ToolCalls") && !nb_go_mentions(s, "Tools"))
        f->calls = 0;
    else if (prefix.n && prefix.n < NB_REPLY_PREFIX && !f->calls) {
        memcpy(f->prefix, prefix.p, prefix.n);
        f->calls = BIT(PREFIX);
    } else if (!f->calls) {
        f->calls = BIT(BARE) | BIT(FENCE);
    }
}

nb_reply_format nb_reply_detect(nb_str s)
{
    nb_reply_format f = {0};
    bool go = nb_go_mentions(s, "Messages") || nb_go_mentions(s, "Prompt") || nb_go_mentions(s, "Response");
    if (s.n == 0)
        return f;
    if (has(s, "<|channel|>") && has(s, "<|message|>")) {
        f.harmony = true;
        return f;
    }
    f.think = think_of(s);
    f.calls = calls_of(s);
    if (go)
        detect_go(s, &f);
    else if (!f.calls && (has(s, "tools") || has(s, "tool_call")))
        f.calls = BIT(BARE) | BIT(FENCE);
    return f;
}

/* ---- names ---- */

bool nb_reply_named(nb_str name, nb_reply_format *out)
{
    static const struct {
        const char *name;
        nb_think think;
        uint64_t calls;
    } rows[] = {
        {"qwen3", NB_THINK_NONE, BIT(TAG)},
        {"qwen3-thinking", NB_THINK_TAG, BIT(TAG)},
        {"qwen3.5", NB_THINK_TAG, BIT(TAG) | BIT(FUNCTION)},
        {"qwen3-coder", NB_THINK_NONE, BIT(TAG) | BIT(FUNCTION)},
        {"qwen3-vl-instruct", NB_THINK_NONE, BIT(TAG)},
        {"qwen3-vl-thinking", NB_THINK_TAG, BIT(TAG)},
        {"ministral", NB_THINK_BRACKET, BIT(MISTRAL)},
        {"cogito", NB_THINK_TAG, BIT(TAG) | BIT(DEEPSEEK)},
        {"deepseek3", NB_THINK_TAG, BIT(DEEPSEEK)},
        {"olmo3-think", NB_THINK_TAG, 0},
        {"nemotron-3-nano", NB_THINK_TAG, BIT(TAG) | BIT(FUNCTION)},
        {"nemotron-3.5-nano", NB_THINK_TAG, BIT(TAG) | BIT(FUNCTION)},
        {"glm-4.6", NB_THINK_TAG, BIT(TAG)},
        {"glm-4.7", NB_THINK_TAG, BIT(TAG)},
        {"lfm2", NB_THINK_NONE, BIT(LFM)},
        {"lfm2-thinking", NB_THINK_TAG, BIT(LFM)},
        {"cohere", NB_THINK_COHERE, BIT(START_ACTION)},
        {"passthrough", NB_THINK_NONE, 0},
        {"harmony", NB_THINK_NONE, 0},
    };
    *out = (nb_reply_format){0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (nb_str_eqz(name, rows[i].name)) {
            *out = (nb_reply_format){.think = rows[i].think, .calls = rows[i].calls};
            out->harmony = nb_str_eqz(name, "harmony");
            return true;
        }
    return false;
}

bool nb_reply_opened(const nb_reply_format *format, nb_str prompt)
{
    nb_str open = nb_think_rows[format->think].open;
    while (prompt.n && nb_reply_space(prompt.p[prompt.n - 1]))
        prompt.n--;
    return format->think != NB_THINK_NONE && prompt.n >= open.n &&
           memcmp(prompt.p + prompt.n - open.n, open.p, open.n) == 0;
}

/* ---- markers ---- */

static void mark(nb_str s, const char **out, size_t room, size_t *count)
{
    if (!s.n)
        return;
    if (*count < room)
        out[*count] = s.p;
    ++*count;
}

size_t nb_reply_markers(const nb_reply_format *f, const char **out, size_t room)
{
    static const char *const harmony[] = {"<|start|>", "<|channel|>", "<|constrain|>", "<|message|>",
                                          "<|end|>",   "<|call|>",    "<|return|>"};
    size_t n = 0;
    for (size_t i = 0; f->harmony && i < sizeof harmony / sizeof *harmony; i++)
        mark(nb_str_of(harmony[i]), out, room, &n);
    if (f->think) {
        mark(nb_think_rows[f->think].open, out, room, &n);
        mark(nb_think_rows[f->think].close, out, room, &n);
        for (size_t i = 0; i < nb_said_count; i++) {
            mark(nb_said_rows[i].open, out, room, &n);
            mark(nb_said_rows[i].close, out, room, &n);
        }
    }
    for (int i = 0; i < NB_CALL_SYNTAXES; i++)
        if (f->calls >> i & 1) {
            mark(nb_call_rows[i].open, out, room, &n);
            mark(nb_call_rows[i].name_end, out, room, &n);
            mark(nb_call_rows[i].close, out, room, &n);
        }
    if (f->prefix[0])
        mark(nb_str_of(f->prefix), out, room, &n);
    for (size_t i = 0; i < nb_section_count && f->calls; i++) {
        mark(nb_section_rows[i].open, out, room, &n);
        mark(nb_section_rows[i].close, out, room, &n);
    }
    if (f->calls & BIT(MISTRAL))
        mark(NB_STR("[CALL_ID]"), out, room, &n);
    return n;
}
