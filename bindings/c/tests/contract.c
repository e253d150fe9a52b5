/* Tests the installed library as a C program uses it: real processes, real kills. Prints one line for each test. */
#define _GNU_SOURCE
#include <assert.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <tenure.h>
#include <unistd.h>

static char folder[] = "/tmp/tenure-c-XXXXXX";
static char target[256];
static char lock_file[300];

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        tenure_error *error_;                                                                                          \
        tenure_error **error = &error_;                                                                                \
        tenure_code code = (call);                                                                                     \
        if (code != TENURE_OK || error_ != NULL) {                                                                     \
            fprintf(stderr, "%s:%d: %s: code %d: %s\n", __FILE__, __LINE__, #call, code, tenure_error_message(error_)); \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                                  \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static int exists(const char *path) {
    struct stat found;
    return lstat(path, &found) == 0;
}

/* Starts a child that holds the lock, and returns once it does. */
static pid_t holder(void) {
    int held[2];
    CHECK(pipe(held) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        tenure_lock *lock;
        tenure_guard *guard;
        MUST(tenure_open(target, NULL, &lock, error));
        MUST(tenure_acquire(lock, TENURE_WAIT_FOREVER, &guard, error));
        CHECK(write(held[1], "x", 1) == 1);
        for (;;) pause();
    }
    char byte;
    close(held[1]);
    CHECK(read(held[0], &byte, 1) == 1);
    close(held[0]);
    return child;
}

static void end(pid_t child) {
    int status;
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}

static void a_lock_is_acquired_and_released(void) {
    tenure_lock *lock;
    tenure_guard *guard;
    MUST(tenure_open(target, NULL, &lock, error));
    CHECK(!exists(lock_file));
    MUST(tenure_acquire(lock, TENURE_NO_WAIT, &guard, error));
    CHECK(exists(lock_file));
    uint64_t first = tenure_fence(guard);
    CHECK(first > 0 && first < (UINT64_C(1) << 53));
    CHECK(!tenure_previous_crashed(guard) && tenure_previous_json(guard) == NULL);
    MUST(tenure_check(guard, error));
    MUST(tenure_set_label(guard, "contract", error));
    char *json;
    MUST(tenure_status(target, &json, error));
    CHECK(strstr(json, "\"state\":\"held\"") && strstr(json, "\"label\":\"contract\""));
    tenure_text_free(json);
    MUST(tenure_release(guard, error));
    CHECK(!exists(lock_file));
    MUST(tenure_acquire(lock, 1000, &guard, error));
    CHECK(tenure_fence(guard) > first);
    tenure_lock_free(lock);
    CHECK(exists(lock_file));
    tenure_guard_free(guard);
    CHECK(!exists(lock_file));
}

static void a_suspended_lock_lets_others_in(void) {
    tenure_lock *lock;
    tenure_guard *guard, *other;
    tenure_error *error;
    tenure_meanwhile meanwhile = TENURE_MEANWHILE_UNKNOWN;
    tenure_options *options = tenure_options_new();
    MUST(tenure_options_set_history(options, 20, error));
    MUST(tenure_open(target, options, &lock, error));
    tenure_options_free(options);
    MUST(tenure_acquire(lock, TENURE_NO_WAIT, &guard, error));
    uint64_t first = tenure_fence(guard);
    MUST(tenure_suspend(guard, error));
    CHECK(!exists(lock_file) && tenure_fence(guard) == 0);
    CHECK(tenure_check(guard, &error) == TENURE_LOST && strstr(tenure_error_message(error), "suspended"));
    tenure_error_free(error);
    CHECK(tenure_suspend(guard, NULL) == TENURE_LOST);
    CHECK(tenure_slot(guard) == -1);
    CHECK(tenure_mark_successful(guard, &error) == TENURE_LOST && strstr(tenure_error_message(error), "suspended"));
    tenure_error_free(error);
    tenure_set_exit_code(guard, 7);
    char *json;
    MUST(tenure_status(target, &json, error));
    CHECK(strstr(json, "\"state\":\"free\"") && strstr(json, "\"suspended\":[{\"pid\":"));
    tenure_text_free(json);
    MUST(tenure_resume(guard, TENURE_NO_WAIT, &meanwhile, error));
    CHECK(!meanwhile && tenure_fence(guard) > first && exists(lock_file));
    CHECK(tenure_slot(guard) == -1 && tenure_mark_successful(guard, NULL) == TENURE_UNSUPPORTED);
    CHECK(tenure_resume(guard, TENURE_NO_WAIT, &meanwhile, NULL) == TENURE_INVALID_ARGUMENT);

    MUST(tenure_suspend(guard, error));
    MUST(tenure_acquire(lock, TENURE_NO_WAIT, &other, error));
    MUST(tenure_release(other, error));
    MUST(tenure_resume(guard, TENURE_WAIT_FOREVER, &meanwhile, error));
    CHECK(meanwhile == TENURE_MEANWHILE_OTHERS);
    MUST(tenure_suspend(guard, error));
    MUST(tenure_resume(guard, 1000, NULL, error));

    // A resume that fails gives the lock up.
    MUST(tenure_suspend(guard, error));
    MUST(tenure_acquire(lock, TENURE_NO_WAIT, &other, error));
    CHECK(tenure_resume(guard, TENURE_NO_WAIT, &meanwhile, NULL) == TENURE_BUSY);
    CHECK(tenure_resume(guard, TENURE_NO_WAIT, &meanwhile, NULL) == TENURE_INVALID_ARGUMENT);
    CHECK(tenure_release(guard, NULL) == TENURE_LOST);
    MUST(tenure_suspend(other, error));
    MUST(tenure_release(other, error));
    CHECK(!exists(lock_file));
    MUST(tenure_history(target, &json, error));
    CHECK(strstr(json, "\"ended\":\"released\"") && !strstr(json, "\"exitCode\":7"));
    tenure_text_free(json);
    CHECK(tenure_suspend(NULL, NULL) == TENURE_INVALID_ARGUMENT);
    CHECK(tenure_resume(NULL, 0, NULL, NULL) == TENURE_INVALID_ARGUMENT);
    tenure_lock_free(lock);
}

static void a_busy_lock_names_its_holder(void) {
    pid_t child = holder();
    tenure_lock *lock;
    tenure_guard *guard = (tenure_guard *)1;
    tenure_error *error;
    MUST(tenure_open(target, NULL, &lock, error));
    CHECK(tenure_acquire(lock, 50, &guard, &error) == TENURE_BUSY);
    CHECK(guard == NULL && tenure_error_code(error) == TENURE_BUSY && tenure_error_errno(error) == 0);
    CHECK(tenure_error_holder_pid(error) == child);
    char pid[32];
    snprintf(pid, sizeof pid, "\"pid\":%d,", child);
    CHECK(strstr(tenure_error_holder_json(error), pid));
    snprintf(pid, sizeof pid, "pid %d", child);
    CHECK(strstr(tenure_error_message(error), target) && strstr(tenure_error_message(error), pid));
    tenure_error_free(error);
    CHECK(tenure_acquire(lock, TENURE_NO_WAIT, &guard, NULL) == TENURE_BUSY);
    tenure_lock_free(lock);
    end(child);
}

static void a_killed_holder_frees_the_lock_and_is_reported(void) {
    pid_t child = holder();
    end(child);
    tenure_lock *lock;
    tenure_guard *guard;
    MUST(tenure_open(target, NULL, &lock, error));
    MUST(tenure_acquire(lock, 10000, &guard, error));
    char pid[32], *json = tenure_previous_json(guard);
    snprintf(pid, sizeof pid, "\"pid\":%d,", child);
    CHECK(tenure_previous_crashed(guard) && json && strstr(json, pid) && strstr(json, "\"liveness\":\"dead\""));
    tenure_text_free(json);
    MUST(tenure_release(guard, error));
    tenure_lock_free(lock);
}

static void a_broken_lock_is_lost(void) {
    tenure_lock *lock;
    tenure_guard *guard;
    tenure_error *error;
    bool broken = true;
    MUST(tenure_open(target, NULL, &lock, error));
    MUST(tenure_break_lock(target, false, &broken, error));
    CHECK(!broken);
    MUST(tenure_acquire(lock, 0, &guard, error));
    CHECK(tenure_break_lock(target, false, &broken, NULL) == TENURE_BUSY && !broken);
    MUST(tenure_break_lock(target, true, &broken, error));
    CHECK(broken && tenure_check(guard, &error) == TENURE_LOST);
    tenure_error_free(error);
    CHECK(tenure_release(guard, NULL) == TENURE_LOST);
    tenure_lock_free(lock);
}

static void options_change_the_lock(void) {
    tenure_options *options = tenure_options_new();
    tenure_lock *lock;
    tenure_guard *one, *two;
    tenure_error *error;
    MUST(tenure_options_set_style(options, TENURE_STYLE_FLOCK, error));
    MUST(tenure_options_set_deadlock_check(options, false, error));
    MUST(tenure_options_set_label(options, "shared", error));
    MUST(tenure_options_set_mode(options, 0666, error));
    MUST(tenure_options_set_history(options, 3, error));
    MUST(tenure_open(target, options, &lock, error));
    MUST(tenure_acquire_shared(lock, 0, &one, error));
    MUST(tenure_acquire_shared(lock, 0, &two, error));
    CHECK(tenure_fence(one) == 0);
    MUST(tenure_release(one, error));
    MUST(tenure_release(two, error));
    tenure_lock_free(lock);
    tenure_options_free(options);

    options = tenure_options_new();
    MUST(tenure_options_set_reentrant(options, true, error));
    MUST(tenure_options_set_create_parents(options, false, error));
    MUST(tenure_options_set_steal_after(options, 3600000, error));
    MUST(tenure_options_set_max_hold(options, 60000, error));
    MUST(tenure_options_set_overrun(options, TENURE_OVERRUN_REVOKE, error));
    MUST(tenure_open(target, options, &lock, error));
    MUST(tenure_acquire(lock, 0, &one, error));
    MUST(tenure_acquire(lock, 0, &two, error));
    CHECK(tenure_fence(one) == tenure_fence(two));
    MUST(tenure_release(one, error));
    MUST(tenure_check(two, error));
    MUST(tenure_release(two, error));
    tenure_lock_free(lock);

    MUST(tenure_options_set_record(options, false, error));
    CHECK(tenure_options_set_style(options, 7, &error) == TENURE_INVALID_ARGUMENT);
    CHECK(strstr(tenure_error_message(error), "style is 7"));
    tenure_error_free(error);
    CHECK(tenure_options_set_overrun(options, -1, NULL) == TENURE_INVALID_ARGUMENT);
    CHECK(tenure_options_set_label(options, "\xff", NULL) == TENURE_INVALID_ARGUMENT);
    tenure_options_free(options);
}

static void each_holder_of_several_has_a_slot(void) {
    tenure_options *options = tenure_options_new();
    tenure_lock *lock;
    tenure_guard *one, *two, *more;
    tenure_error *error;
    char *json;
    MUST(tenure_options_set_slots(options, 2, error));
    MUST(tenure_open(target, options, &lock, error));
    MUST(tenure_acquire(lock, 0, &one, error));
    MUST(tenure_acquire(lock, TENURE_WAIT_FOREVER, &two, error));
    CHECK(tenure_slot(one) == 0 && tenure_slot(two) == 1);
    CHECK(tenure_acquire(lock, 0, &more, &error) == TENURE_BUSY && strstr(tenure_error_message(error), "no slot of 2"));
    tenure_error_free(error);
    MUST(tenure_slots(target, &json, error));
    CHECK(strstr(json, ".slot-0\"") && strstr(json, ".slot-1\"") && !strstr(json, ".slot-2\""));
    tenure_text_free(json);
    MUST(tenure_release(one, error));
    MUST(tenure_acquire(lock, 0, &more, error));
    CHECK(tenure_slot(more) == 0);
    MUST(tenure_release(more, error));
    MUST(tenure_release(two, error));
    MUST(tenure_slots(target, &json, error));
    CHECK(strcmp(json, "[]") == 0);
    tenure_text_free(json);
    tenure_lock_free(lock);
    MUST(tenure_options_set_slots(options, 1001, error));
    CHECK(tenure_open(target, options, &lock, NULL) == TENURE_UNSUPPORTED && lock == NULL);
    tenure_options_free(options);
    CHECK(tenure_slot(NULL) == -1 && tenure_slots(NULL, &json, NULL) == TENURE_INVALID_ARGUMENT && json == NULL);
}

static void a_run_that_is_not_needed_is_skipped(void) {
    tenure_options *options = tenure_options_new();
    tenure_lock *lock;
    tenure_guard *guard;
    tenure_error *error;
    MUST(tenure_open(target, NULL, &lock, error));
    MUST(tenure_acquire(lock, 0, &guard, error));
    CHECK(tenure_slot(guard) == -1 && tenure_mark_successful(guard, NULL) == TENURE_UNSUPPORTED);
    MUST(tenure_release(guard, error));
    tenure_lock_free(lock);

    MUST(tenure_options_set_not_more_often_than(options, 3600000, error));
    MUST(tenure_open(target, options, &lock, error));
    MUST(tenure_acquire(lock, 0, &guard, error));
    MUST(tenure_mark_successful(guard, error));
    MUST(tenure_release(guard, error));
    CHECK(tenure_acquire(lock, TENURE_WAIT_FOREVER, &guard, &error) == TENURE_SKIPPED && guard == NULL);
    CHECK(tenure_error_code(error) == TENURE_SKIPPED);
    tenure_error_free(error);
    tenure_lock_free(lock);
    tenure_options_free(options);
    CHECK(tenure_mark_successful(NULL, NULL) == TENURE_INVALID_ARGUMENT);
}

static void a_busy_lock_is_skipped_or_taken_by_force(void) {
    pid_t child = holder();
    int status;
    tenure_options *options = tenure_options_new();
    tenure_lock *lock;
    tenure_guard *guard;
    tenure_error *error;
    MUST(tenure_options_set_if_busy(options, TENURE_IF_BUSY_SKIP, error));
    MUST(tenure_open(target, options, &lock, error));
    CHECK(tenure_acquire(lock, TENURE_WAIT_FOREVER, &guard, &error) == TENURE_BUSY);
    CHECK(tenure_error_holder_pid(error) == child);
    tenure_error_free(error);
    tenure_lock_free(lock);

    /* The child has no handler for SIGTERM. Its death is a crash for the next holder. */
    MUST(tenure_options_set_if_busy(options, TENURE_IF_BUSY_REPLACE, error));
    MUST(tenure_options_set_grace(options, 60000, error));
    MUST(tenure_options_set_history(options, 5, error));
    MUST(tenure_open(target, options, &lock, error));
    MUST(tenure_acquire(lock, TENURE_WAIT_FOREVER, &guard, error));
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    tenure_set_exit_code(guard, 7);
    MUST(tenure_release(guard, error));
    char *json, pid[32];
    MUST(tenure_history(target, &json, error));
    snprintf(pid, sizeof pid, "\"pid\":%d,", getpid());
    CHECK(json[0] == '[' && strstr(json, pid) && strstr(json, "\"ended\":\"released\"") && strstr(json, "\"exitCode\":7"));
    tenure_text_free(json);
    tenure_lock_free(lock);

    MUST(tenure_options_set_if_busy(options, TENURE_IF_BUSY_QUEUE_ONE, error));
    MUST(tenure_options_set_if_busy(options, TENURE_IF_BUSY_WAIT, error));
    CHECK(tenure_options_set_if_busy(options, 4, &error) == TENURE_INVALID_ARGUMENT);
    CHECK(strstr(tenure_error_message(error), "if_busy is 4"));
    tenure_error_free(error);
    tenure_options_free(options);
    tenure_set_exit_code(NULL, 0);
}

static void wrong_arguments_are_errors(void) {
    tenure_lock *lock = (tenure_lock *)1;
    tenure_guard *guard;
    tenure_error *error;
    char *json;
    CHECK(tenure_open(NULL, NULL, &lock, &error) == TENURE_INVALID_ARGUMENT && lock == NULL);
    CHECK(strcmp(tenure_error_message(error), "target is NULL") == 0);
    CHECK(tenure_error_holder_pid(error) == 0 && tenure_error_holder_json(error) == NULL);
    tenure_error_free(error);
    CHECK(tenure_open(target, NULL, NULL, NULL) == TENURE_INVALID_ARGUMENT);
    CHECK(tenure_open("", NULL, &lock, NULL) == TENURE_INVALID_TARGET);
    CHECK(tenure_acquire(NULL, 0, &guard, NULL) == TENURE_INVALID_ARGUMENT && guard == NULL);
    CHECK(tenure_release(NULL, NULL) == TENURE_INVALID_ARGUMENT);
    CHECK(tenure_check(NULL, NULL) == TENURE_INVALID_ARGUMENT);
    CHECK(tenure_status(NULL, &json, NULL) == TENURE_INVALID_ARGUMENT && json == NULL);
    CHECK(tenure_options_set_label(NULL, "x", NULL) == TENURE_INVALID_ARGUMENT);
    CHECK(tenure_fence(NULL) == 0 && !tenure_previous_crashed(NULL) && tenure_previous_json(NULL) == NULL);
    CHECK(tenure_error_code(NULL) == TENURE_OK && tenure_error_message(NULL)[0] == 0 && tenure_error_errno(NULL) == 0);
    tenure_error_free(NULL);
    tenure_lock_free(NULL);
    tenure_guard_free(NULL);
    tenure_options_free(NULL);
    tenure_text_free(NULL);

    /* A second acquire by the thread that holds would wait for itself. */
    MUST(tenure_open(target, NULL, &lock, error));
    MUST(tenure_acquire(lock, 0, &guard, error));
    tenure_guard *second;
    CHECK(tenure_acquire(lock, TENURE_WAIT_FOREVER, &second, NULL) == TENURE_WOULD_DEADLOCK);
    MUST(tenure_release(guard, error));
    tenure_lock_free(lock);
}

static void a_list_has_the_held_locks(void) {
    pid_t child = holder();
    char *json;
    MUST(tenure_list(folder, true, &json, error));
    CHECK(json[0] == '[' && strstr(json, target) && strstr(json, "\"held\""));
    tenure_text_free(json);
    end(child);
    tenure_lock *lock;
    tenure_guard *guard;
    MUST(tenure_open(target, NULL, &lock, error));
    MUST(tenure_acquire(lock, 0, &guard, error));
    MUST(tenure_release(guard, error));
    tenure_lock_free(lock);
}

static void a_signal_removes_the_lock_file(void) {
    int held[2], status;
    CHECK(pipe(held) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        tenure_lock *lock;
        tenure_guard *guard;
        signal(SIGTERM, SIG_DFL);
        MUST(tenure_install_cleanup(error));
        MUST(tenure_open(target, NULL, &lock, error));
        MUST(tenure_acquire(lock, 0, &guard, error));
        CHECK(write(held[1], "x", 1) == 1);
        for (;;) pause();
    }
    char byte;
    close(held[1]);
    CHECK(read(held[0], &byte, 1) == 1 && exists(lock_file));
    CHECK(kill(child, SIGTERM) == 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM && !exists(lock_file));
}

/* The path of another target in the folder. */
static char *beside(char *place, size_t size, const char *name) {
    snprintf(place, size, "%s/%s", folder, name);
    return place;
}

static void several_locks_are_acquired_all_or_none(void) {
    char paths[2][200], two_file[300];
    tenure_lock *locks[2], *same[2];
    tenure_guard *guards[2], *guard;
    tenure_error *error;
    for (int i = 0; i < 2; i++) MUST(tenure_open(beside(paths[i], sizeof *paths, i ? "two" : "one"), NULL, &locks[i], error));
    snprintf(two_file, sizeof two_file, "%s.lock", paths[1]);
    MUST(tenure_acquire_all((const tenure_lock *const *)locks, 2, TENURE_WAIT_FOREVER, guards, error));
    char *json[2];
    for (int i = 0; i < 2; i++) {
        CHECK(tenure_fence(guards[i]) > 0);
        MUST(tenure_status(paths[i], &json[i], error));
        CHECK(strstr(json[i], "\"state\":\"held\""));
        tenure_text_free(json[i]);
    }
    /* Their order is that of the locks. */
    MUST(tenure_release(guards[1], error));
    CHECK(!exists(two_file));
    MUST(tenure_release(guards[0], error));

    /* Another process holds one of them: none is held, and one deadline is for both. */
    snprintf(target, sizeof target, "%s", paths[0]);
    pid_t child = holder();
    for (int i = 0; i < 2; i++) guards[i] = (tenure_guard *)1;
    const tenure_lock *reversed[] = {locks[1], locks[0]};
    CHECK(tenure_acquire_all(reversed, 2, 20, guards, &error) == TENURE_BUSY);
    CHECK(guards[0] == NULL && guards[1] == NULL && tenure_error_holder_pid(error) == child && !exists(two_file));
    tenure_error_free(error);
    MUST(tenure_acquire(locks[1], TENURE_NO_WAIT, &guard, error));
    MUST(tenure_release(guard, error));
    end(child);
    MUST(tenure_acquire_all(reversed, 2, TENURE_WAIT_FOREVER, guards, error));
    CHECK(!tenure_previous_crashed(guards[0]) && tenure_previous_crashed(guards[1]));
    for (int i = 0; i < 2; i++) MUST(tenure_release(guards[i], error));
    beside(target, sizeof target, "data");

    MUST(tenure_open(paths[0], NULL, &same[0], error));
    same[1] = locks[0];
    guards[0] = (tenure_guard *)1;
    CHECK(tenure_acquire_all((const tenure_lock *const *)same, 2, 0, guards, &error) == TENURE_INVALID_TARGET);
    CHECK(guards[0] == NULL && strstr(tenure_error_message(error), "named twice"));
    tenure_error_free(error);
    tenure_lock_free(same[0]);
    same[0] = NULL;
    CHECK(tenure_acquire_all((const tenure_lock *const *)same, 2, 0, guards, &error) == TENURE_INVALID_ARGUMENT);
    CHECK(strcmp(tenure_error_message(error), "locks[0] is NULL") == 0);
    tenure_error_free(error);
    CHECK(tenure_acquire_all(NULL, 1, 0, guards, NULL) == TENURE_INVALID_ARGUMENT && guards[0] == NULL);
    CHECK(tenure_acquire_all(reversed, 2, 0, NULL, NULL) == TENURE_INVALID_ARGUMENT);
    CHECK(tenure_acquire_all(reversed, (size_t)-1, 0, guards, NULL) == TENURE_INVALID_ARGUMENT);
    MUST(tenure_acquire_all(NULL, 0, 0, NULL, error));
    for (int i = 0; i < 2; i++) tenure_lock_free(locks[i]);
}

/* Starts a child that holds `own`, and waits for `other` once a byte comes by the descriptor at `go`, with or without the check for
 * deadlocks. It ends with 0 once it had both. Returns once it holds. */
static pid_t holds_and_waits(const char *own, const char *other, bool checks, int *go) {
    int held[2], begins[2];
    CHECK(pipe(held) == 0 && pipe(begins) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    char byte;
    if (child == 0) {
        tenure_options *options = tenure_options_new();
        tenure_lock *lock;
        tenure_guard *guard, *second;
        MUST(tenure_open(own, NULL, &lock, error));
        MUST(tenure_acquire(lock, TENURE_WAIT_FOREVER, &guard, error));
        CHECK(write(held[1], "x", 1) == 1 && read(begins[0], &byte, 1) == 1);
        MUST(tenure_options_set_deadlock_check(options, checks, error));
        MUST(tenure_open(other, options, &lock, error));
        MUST(tenure_acquire(lock, TENURE_WAIT_FOREVER, &second, error));
        _exit(0);
    }
    close(held[1]);
    CHECK(read(held[0], &byte, 1) == 1);
    close(held[0]);
    close(begins[0]);
    *go = begins[1];
    return child;
}

/* Has such a child wait. */
static void begin_to_wait(int go) {
    CHECK(write(go, "x", 1) == 1);
    close(go);
}

static void a_circle_of_waits_is_named(void) {
    char x[200], y[200], note[300], expected[600], *json;
    tenure_lock *lock;
    tenure_guard *guard, *second;
    tenure_error *error;
    struct stat found;
    beside(x, sizeof x, "x");
    beside(y, sizeof y, "y");
    MUST(tenure_open(x, NULL, &lock, error));
    MUST(tenure_acquire(lock, 0, &guard, error));
    tenure_lock_free(lock);
    int go[2];
    pid_t child = holds_and_waits(y, x, true, &go[0]);
    begin_to_wait(go[0]);
    snprintf(note, sizeof note, "%s/.tenure/y.lock.0.waits", folder);
    while (stat(note, &found) != 0 || found.st_size == 0) usleep(1000);
    MUST(tenure_open(y, NULL, &lock, error));
    CHECK(tenure_acquire(lock, TENURE_WAIT_FOREVER, &second, &error) == TENURE_WOULD_DEADLOCK && second == NULL);
    CHECK(strstr(tenure_error_message(error), tenure_error_circle(error)));
    snprintf(expected, sizeof expected, " holds %s and waits for %s", y, x);
    CHECK(strstr(tenure_error_circle(error), expected));
    snprintf(expected, sizeof expected, "{\"waits\":[{\"pid\":%d,", child);
    CHECK(strncmp(tenure_error_circle_json(error), expected, strlen(expected)) == 0);
    snprintf(expected, sizeof expected, "\"holds\":\"%s\",\"holderPid\":null,\"waitsFor\":\"%s\"", x, y);
    CHECK(strstr(tenure_error_circle_json(error), expected));
    tenure_error_free(error);
    MUST(tenure_release(guard, error));
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* Other errors have none. */
    CHECK(tenure_open("", NULL, &lock, &error) == TENURE_INVALID_TARGET);
    CHECK(tenure_error_circle(error) == NULL && tenure_error_circle_json(error) == NULL);
    tenure_error_free(error);
    CHECK(tenure_error_circle(NULL) == NULL && tenure_error_circle_json(NULL) == NULL);

    MUST(tenure_deadlocks(folder, true, &json, error));
    CHECK(strcmp(json, "{\"deadlocks\":[]}") == 0);
    tenure_text_free(json);
    pid_t one = holds_and_waits(x, y, false, &go[0]), other = holds_and_waits(y, x, false, &go[1]);
    for (int i = 0; i < 2; i++) begin_to_wait(go[i]);
    char one_pid[32], other_pid[32];
    snprintf(one_pid, sizeof one_pid, "\"pid\":%d,", one);
    snprintf(other_pid, sizeof other_pid, "\"pid\":%d,", other);
    for (bool both = false; !both; usleep(1000)) {
        MUST(tenure_deadlocks(folder, false, &json, error));
        both = strstr(json, one_pid) && strstr(json, other_pid);
        CHECK(strncmp(json, "{\"deadlocks\":[", 14) == 0);
        tenure_text_free(json);
    }
    /* The other one has both then. */
    end(one);
    CHECK(waitpid(other, &status, 0) == other && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(tenure_deadlocks(NULL, false, &json, NULL) == TENURE_INVALID_ARGUMENT && json == NULL);
    CHECK(tenure_deadlocks("etcd://localhost/x", false, &json, NULL) == TENURE_UNSUPPORTED && json == NULL);
}

/* Waits until a descriptor is readable. */
static void readable(int fd) {
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    CHECK(fd >= 0 && poll(&watched, 1, 600000) == 1 && (watched.revents & POLLIN));
}

static void an_event_loop_acquires(void) {
    tenure_lock *lock;
    tenure_guard *guard;
    tenure_acquiring *acquiring;
    tenure_error *error;
    pid_t child = holder();
    MUST(tenure_open(target, NULL, &lock, error));
    CHECK(tenure_begin(lock, TENURE_NO_WAIT, &acquiring, &error) == TENURE_BUSY && acquiring == NULL);
    CHECK(tenure_error_holder_pid(error) == child);
    tenure_error_free(error);
    MUST(tenure_begin(lock, TENURE_WAIT_FOREVER, &acquiring, error));
    readable(tenure_acquiring_fd(acquiring));
    CHECK(tenure_acquiring_left(acquiring) == -1);
    guard = (tenure_guard *)1;
    MUST(tenure_acquiring_poll(acquiring, &guard, error));
    CHECK(guard == NULL);
    end(child);
    while (guard == NULL) {
        readable(tenure_acquiring_fd(acquiring));
        MUST(tenure_acquiring_poll(acquiring, &guard, error));
    }
    CHECK(tenure_previous_crashed(guard) && tenure_fence(guard) > 0);
    tenure_guard *none = guard;
    CHECK(tenure_acquiring_poll(acquiring, &none, NULL) == TENURE_INVALID_ARGUMENT && none == NULL);
    CHECK(tenure_acquiring_left(acquiring) == -1);
    tenure_acquiring_free(acquiring);
    MUST(tenure_check(guard, error));
    MUST(tenure_release(guard, error));
    tenure_lock_free(lock);

    /* A timeout, a wait that is given up, and a grant that nobody polled. */
    child = holder();
    MUST(tenure_open(target, NULL, &lock, error));
    MUST(tenure_begin(lock, 20, &acquiring, error));
    int64_t left = tenure_acquiring_left(acquiring);
    CHECK(left >= 0 && left <= 20);
    tenure_code code = TENURE_OK;
    while (code == TENURE_OK) {
        struct pollfd watched = {.fd = tenure_acquiring_fd(acquiring), .events = POLLIN};
        CHECK(poll(&watched, 1, (int)tenure_acquiring_left(acquiring)) >= 0);
        code = tenure_acquiring_poll(acquiring, &guard, &error);
    }
    CHECK(code == TENURE_BUSY && guard == NULL && tenure_error_holder_pid(error) == child);
    tenure_error_free(error);
    tenure_acquiring_free(acquiring);
    MUST(tenure_begin(lock, TENURE_WAIT_FOREVER, &acquiring, error));
    tenure_acquiring_free(acquiring);
    MUST(tenure_begin(lock, TENURE_WAIT_FOREVER, &acquiring, error));
    MUST(tenure_acquiring_poll(acquiring, &guard, error));
    end(child);
    readable(tenure_acquiring_fd(acquiring));
    tenure_acquiring_free(acquiring);
    CHECK(!exists(lock_file));
    MUST(tenure_begin(lock, TENURE_NO_WAIT, &acquiring, error));
    MUST(tenure_acquiring_poll(acquiring, &guard, error));
    tenure_acquiring_free(acquiring);
    MUST(tenure_check(guard, error));
    MUST(tenure_release(guard, error));
    CHECK(tenure_begin_shared(lock, TENURE_NO_WAIT, &acquiring, NULL) == TENURE_UNSUPPORTED);
    tenure_lock_free(lock);

    tenure_options *options = tenure_options_new();
    MUST(tenure_options_set_style(options, TENURE_STYLE_FLOCK, error));
    MUST(tenure_open(target, options, &lock, error));
    tenure_options_free(options);
    MUST(tenure_begin_shared(lock, TENURE_NO_WAIT, &acquiring, error));
    MUST(tenure_acquiring_poll(acquiring, &guard, error));
    tenure_acquiring_free(acquiring);
    MUST(tenure_release(guard, error));
    tenure_lock_free(lock);
    CHECK(tenure_begin(NULL, 0, &acquiring, NULL) == TENURE_INVALID_ARGUMENT && acquiring == NULL);
    CHECK(tenure_acquiring_poll(NULL, &guard, NULL) == TENURE_INVALID_ARGUMENT);
    CHECK(tenure_acquiring_fd(NULL) == -1 && tenure_acquiring_left(NULL) == -1);
    tenure_acquiring_free(NULL);
}

static void a_loss_is_told_by_a_descriptor(void) {
    tenure_lock *lock;
    tenure_guard *guard;
    tenure_error *error;
    int fd, again;
    MUST(tenure_open(target, NULL, &lock, error));
    MUST(tenure_acquire(lock, 0, &guard, error));
    MUST(tenure_lost_fd(guard, &fd, error));
    MUST(tenure_lost_fd(guard, &again, error));
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    CHECK(fd >= 0 && again == fd && poll(&watched, 1, 0) == 0);
    /* The same one after a suspension. */
    MUST(tenure_suspend(guard, error));
    CHECK(tenure_lost_fd(guard, &again, NULL) == TENURE_LOST && again == -1);
    MUST(tenure_resume(guard, TENURE_WAIT_FOREVER, NULL, error));
    MUST(tenure_lost_fd(guard, &again, error));
    CHECK(again == fd && poll(&watched, 1, 0) == 0);
    MUST(tenure_break_lock(target, true, NULL, error));
    readable(fd);
    CHECK(tenure_check(guard, NULL) == TENURE_LOST);
    CHECK(tenure_release(guard, NULL) == TENURE_LOST);
    tenure_lock_free(lock);

    tenure_options *options = tenure_options_new();
    MUST(tenure_options_set_max_hold(options, 1, error));
    MUST(tenure_options_set_overrun(options, TENURE_OVERRUN_REVOKE, error));
    MUST(tenure_open(target, options, &lock, error));
    tenure_options_free(options);
    MUST(tenure_acquire(lock, TENURE_WAIT_FOREVER, &guard, error));
    CHECK(tenure_lost_fd(guard, &fd, &error) == TENURE_OK);
    readable(fd);
    CHECK(tenure_check(guard, NULL) == TENURE_LOST);
    tenure_guard_free(guard);
    tenure_lock_free(lock);
    CHECK(tenure_lost_fd(NULL, &fd, NULL) == TENURE_INVALID_ARGUMENT && fd == -1);
    MUST(tenure_open(target, NULL, &lock, error));
    MUST(tenure_acquire(lock, TENURE_WAIT_FOREVER, &guard, error));
    CHECK(tenure_lost_fd(guard, NULL, NULL) == TENURE_INVALID_ARGUMENT);
    MUST(tenure_release(guard, error));
    tenure_lock_free(lock);
}

static void a_holder_shows_itself(void) {
    tenure_options *options = tenure_options_new();
    tenure_lock *lock;
    tenure_guard *guard;
    tenure_error *error;
    char *json, expected[64];
    int64_t lost_in = 7, free_in = 7;
    MUST(tenure_options_set_refresh_interval(options, UINT64_MAX, error));
    MUST(tenure_options_set_stale_after(options, 3600000, error));
    MUST(tenure_options_set_malformed_grace(options, 3600000, error));
    MUST(tenure_open(target, options, &lock, error));
    tenure_options_free(options);

    /* A lock file without a valid pid is left alone for the whole grace. */
    FILE *file = fopen(lock_file, "w");
    CHECK(file && fclose(file) == 0);
    CHECK(tenure_acquire(lock, TENURE_NO_WAIT, &guard, NULL) == TENURE_BUSY);
    CHECK(unlink(lock_file) == 0);

    MUST(tenure_acquire(lock, TENURE_NO_WAIT, &guard, error));
    MUST(tenure_refresh(guard, error));
    json = tenure_holder_json(guard);
    snprintf(expected, sizeof expected, "\"pid\":%d,\"commandPid\":null", getpid());
    CHECK(json && strstr(json, expected) && strstr(json, "\"liveness\":\"alive\""));
    tenure_text_free(json);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) for (;;) pause();
    MUST(tenure_set_command(guard, child, "make -j2", error));
    MUST(tenure_status(target, &json, error));
    snprintf(expected, sizeof expected, "\"commandPid\":%d", child);
    CHECK(strstr(json, expected) && strstr(json, "make -j2"));
    tenure_text_free(json);
    MUST(tenure_set_command(guard, child, NULL, error));
    CHECK(tenure_set_command(guard, 0, NULL, &error) == TENURE_INVALID_ARGUMENT);
    CHECK(strstr(tenure_error_message(error), "pid is 0"));
    tenure_error_free(error);
    end(child);
    json = tenure_record_json(guard);
    snprintf(expected, sizeof expected, "\"pid\":%d", getpid());
    CHECK(json && json[0] == '{' && strstr(json, "make -j2"));
    tenure_text_free(json);
    CHECK(!tenure_lease(guard, &lost_in, &free_in) && lost_in == 7 && free_in == 7);
    MUST(tenure_suspend(guard, error));
    CHECK(tenure_holder_json(guard) == NULL && tenure_record_json(guard) == NULL && !tenure_lease(guard, NULL, NULL));
    CHECK(tenure_refresh(guard, NULL) == TENURE_LOST && tenure_set_command(guard, 1, NULL, NULL) == TENURE_LOST);
    MUST(tenure_release(guard, error));
    tenure_lock_free(lock);
    CHECK(tenure_holder_json(NULL) == NULL && tenure_record_json(NULL) == NULL && !tenure_lease(NULL, NULL, NULL));
    CHECK(tenure_refresh(NULL, NULL) == TENURE_INVALID_ARGUMENT);
    CHECK(tenure_set_command(NULL, 1, NULL, NULL) == TENURE_INVALID_ARGUMENT);
}

#define RUN(test) (test(), printf("test %s ... ok\n", #test), fflush(stdout))

int main(void) {
    CHECK(mkdtemp(folder));
    snprintf(target, sizeof target, "%s/data", folder);
    snprintf(lock_file, sizeof lock_file, "%s.lock", target);
    CHECK(strcmp(tenure_version(), EXPECTED_VERSION) == 0);
    RUN(a_lock_is_acquired_and_released);
    RUN(a_suspended_lock_lets_others_in);
    RUN(a_busy_lock_names_its_holder);
    RUN(a_killed_holder_frees_the_lock_and_is_reported);
    RUN(a_broken_lock_is_lost);
    RUN(options_change_the_lock);
    RUN(each_holder_of_several_has_a_slot);
    RUN(a_run_that_is_not_needed_is_skipped);
    RUN(a_busy_lock_is_skipped_or_taken_by_force);
    RUN(wrong_arguments_are_errors);
    RUN(a_list_has_the_held_locks);
    RUN(several_locks_are_acquired_all_or_none);
    RUN(a_circle_of_waits_is_named);
    RUN(an_event_loop_acquires);
    RUN(a_loss_is_told_by_a_descriptor);
    RUN(a_holder_shows_itself);
    RUN(a_signal_removes_the_lock_file);
    char command[300];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return 0;
}
