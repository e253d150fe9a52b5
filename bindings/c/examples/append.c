/* Appends a line to each of several files while it holds the locks of all of them: cc append.c $(pkg-config --cflags --libs tenure) */
#include <stdio.h>
#include <stdlib.h>
#include <tenure.h>

static int failed(tenure_error *error) {
    fprintf(stderr, "append: %s\n", tenure_error_message(error));
    int busy = tenure_error_code(error) == TENURE_BUSY;
    tenure_error_free(error);
    return busy ? 75 : 74;
}

static int append(const char *path, const char *line) {
    FILE *file = fopen(path, "a");
    if (file && fprintf(file, "%s\n", line) >= 0 && fclose(file) == 0) return 1;
    perror(path);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: append LINE FILE..\n");
        return 64;
    }
    size_t count = (size_t)argc - 2;
    char **files = argv + 2;
    tenure_lock **locks = calloc(count, sizeof *locks);
    tenure_guard **guards = calloc(count, sizeof *guards);
    tenure_error *error;
    if (!locks || !guards) return 74;
    for (size_t i = 0; i < count; i++) {
        if (tenure_open(files[i], NULL, &locks[i], &error) != TENURE_OK) return failed(error);
    }
    if (tenure_acquire_all((const tenure_lock *const *)locks, count, 10000, guards, &error) != TENURE_OK) return failed(error);
    int written = 1;
    for (size_t i = 0; i < count; i++) {
        if (tenure_previous_crashed(guards[i]))
            fprintf(stderr, "append: the last writer of %s crashed: its last line may be incomplete\n", files[i]);
        written &= append(files[i], argv[1]);
    }
    for (size_t i = 0; i < count; i++) {
        tenure_release(guards[i], NULL);
        tenure_lock_free(locks[i]);
    }
    free(locks);
    free(guards);
    return written ? 0 : 74;
}
