/* Asks a model one question. Build it against the installed library:
 *     cc docs/example.c $(pkg-config --cflags --libs nibble) -o example && ./example model.gguf */
#include <stdio.h>
#include <stdlib.h>

#include <nibble.h>

static int print(void *user, const char *text, size_t bytes)
{
    return fwrite(text, 1, bytes, user) != bytes; /* non-zero would end the reply */
}

int main(int argc, char **argv)
{
    const nb_message question = {"user", argc > 2 ? argv[2] : "Name three colors."};
    nb_model_params model_params = nb_model_defaults();
    nb_session_params session_params = nb_session_defaults();
    nb_generate_params params = nb_generate_defaults();
    nb_generate_stats stats = {0};
    nb_model *model = NULL;
    nb_session *session = NULL;
    nb_error err;
    char text[4096];
    int32_t ids[1024];
    size_t bytes = 0, count = 0;

    if (argc < 2)
        return fprintf(stderr, "usage: %s MODEL.gguf [QUESTION]\n", argv[0]), 2;
    params.max_tokens = 64;
    params.sampling.temperature = 0;
    params.on_text = print;
    params.user = stdout;
    if (nb_model_open(argv[1], &model_params, &model, &err) || nb_session_open(model, &session_params, &session, &err) ||
        nb_chat_prompt(model, &question, 1, text, sizeof text, &bytes, &err) ||
        nb_tokenize(model, text, bytes < sizeof text ? bytes : sizeof text, NB_TEXT_PARSE_SPECIAL, ids, 1024, &count, &err) ||
        nb_generate(session, ids, count < 1024 ? count : 1024, &params, &stats, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return EXIT_FAILURE;
    }
    printf("\n");
    fprintf(stderr, "nibble %s: %zu tokens in %.2f s\n", nb_version(), stats.tokens, stats.prompt_seconds + stats.seconds);
    nb_session_close(session);
    nb_model_close(model);
    return EXIT_SUCCESS;
}
