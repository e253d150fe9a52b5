/* Appends a line to a file under its lock: cc append.c $(pkg-config --cflags --libs tenure) */
#include <stdio.h>
#include <tenure.h>

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: append FILE LINE\n");
        return 64;
    }
    tenure_lock *lock;
    tenure_guard *guard;
    tenure_error *error;
    if (tenure_open(argv[1], NULL, &lock, &error) != TENURE_OK ||
        tenure_acquire(lock, 10000, &guard, &error) != TENURE_OK) {
        fprintf(stderr, "append: %s\n", tenure_error_message(error));
        int busy = tenure_error_code(error) == TENURE_BUSY;
        tenure_error_free(error);
        return busy ? 75 : 74;
    }
    if (tenure_previous_crashed(guard)) fprintf(stderr, "append: the last writer crashed: the last line may be incomplete\n");
    FILE *file = fopen(argv[1], "a");
    int written = file && fprintf(file, "%s\n", argv[2]) >= 0 && fclose(file) == 0;
    if (!written) perror(argv[1]);
    tenure_release(guard, NULL);
    tenure_lock_free(lock);
    return written ? 0 : 74;
}
