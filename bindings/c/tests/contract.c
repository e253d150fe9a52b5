/* Tests the installed library as a C program uses it: real processes, real kills. Prints one line for each test. */
#define _GNU_SOURCE
#include <assert.h>
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
    RUN(a_signal_removes_the_lock_file);
    char command[300];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
    return 0;
}
