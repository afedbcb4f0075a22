#include "server/http_log.h"

#include "base/json_write.h"

/* Names and paths come from clients: nothing in them breaks a line. */
static void put_safe(nb_buf *out, nb_str text)
{
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        nb_buf_char(out, c < 0x20 || c == 0x7f ? '?' : (char)c);
    }
}

/* What is the server's own fault quotes no request; what is the client's may. */
static bool shows_error(const nb_log_style *style, const nb_http_record *r)
{
    return r->error[0] && (style->prompts || r->status >= 500);
}

static void put_json(const nb_log_style *style, const char *time, const nb_http_record *r, nb_buf *out)
{
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "time", time);
    nb_json_put_z(&j, "event", "request");
    nb_json_put_z(&j, "id", r->id);
    nb_json_put_z(&j, "method", r->method);
    nb_json_put_z(&j, "route", r->route);
    nb_json_put_int(&j, "status", r->status);
    nb_json_key(&j, "complete");
    nb_json_bool(&j, r->complete);
    nb_json_put_num(&j, "seconds", r->seconds);
    if (r->model[0])
        nb_json_put_z(&j, "model", r->model);
    if (r->replies) {
        nb_json_put_uint(&j, "prompt_tokens", r->prompt_tokens);
        nb_json_put_uint(&j, "reused_tokens", r->reused_tokens);
        nb_json_put_uint(&j, "reply_tokens", r->tokens);
        nb_json_put_num(&j, "queued_seconds", r->queued_seconds);
        nb_json_put_num(&j, "prompt_seconds", r->prompt_seconds);
        nb_json_put_num(&j, "reply_seconds", r->reply_seconds);
    }
    if (style->prompts) {
        nb_json_put_z(&j, "path", r->path);
        nb_json_key(&j, "body");
        nb_json_str(&j, (nb_str){r->body.p, nb_min_size(r->body.n, NB_LOG_BODY)});
    }
    if (shows_error(style, r))
        nb_json_put_z(&j, "error", r->error);
    nb_json_close(&j, '}');
    nb_buf_char(out, '\n');
}

void nb_log_request(const nb_log_style *style, const char *time, const nb_http_record *r, nb_buf *out)
{
    if (style->json) {
        put_json(style, time, r, out);
        return;
    }
    nb_buf_printf(out, "%s %s %s %d %.3f s%s %s", time, r->method, r->route, r->status, r->seconds,
                  r->complete ? "" : " (client left)", r->id);
    if (r->model[0]) {
        nb_buf_char(out, ' ');
        put_safe(out, nb_str_of(r->model));
    }
    if (r->replies)
        nb_buf_printf(out, " prompt %zu (%zu reused) reply %zu, waited %.3f s, prompt %.3f s, reply %.3f s",
                      r->prompt_tokens, r->reused_tokens, r->tokens, r->queued_seconds, r->prompt_seconds,
                      r->reply_seconds);
    if (style->prompts) {
        nb_buf_z(out, " body ");
        put_safe(out, (nb_str){r->body.p, nb_min_size(r->body.n, NB_LOG_BODY)});
    }
    if (shows_error(style, r)) {
        nb_buf_z(out, " error ");
        put_safe(out, nb_str_of(r->error));
    }
    nb_buf_char(out, '\n');
}

void nb_log_message(const nb_log_style *style, const char *time, const char *message, nb_buf *out)
{
    if (style->json) {
        nb_json j = nb_json_begin(out, false);
        nb_json_open(&j, '{');
        nb_json_put_z(&j, "time", time);
        nb_json_put_z(&j, "event", "message");
        nb_json_put_z(&j, "message", message);
        nb_json_close(&j, '}');
        nb_buf_char(out, '\n');
        return;
    }
    nb_buf_printf(out, "%s ", time);
    put_safe(out, nb_str_of(message));
    nb_buf_char(out, '\n');
}
