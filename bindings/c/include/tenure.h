/*
 * Tenure: a lock between programs. Never held by two at once, free as soon as its holder is dead, and it always knows its
 * holder.
 *
 *     tenure_lock *lock;
 *     tenure_guard *guard;
 *     tenure_error *error;
 *     if (tenure_open("sessions/main.jsonl", NULL, &lock, &error) != TENURE_OK ||
 *         tenure_acquire(lock, 10000, &guard, &error) != TENURE_OK) {
 *         fprintf(stderr, "%s\n", tenure_error_message(error));
 *         tenure_error_free(error);
 *         return 1;
 *     }
 *     // .. the protected work ..
 *     tenure_release(guard, NULL);
 *     tenure_lock_free(lock);
 *
 * Each object belongs to the caller, who frees it with the function that its type names. Where a function takes
 * `tenure_error **error`, NULL is allowed; otherwise the place becomes NULL, or an error that the caller frees. Texts are UTF-8
 * and end with a zero byte. A path is the system's bytes. The library may be called by several threads at once, each object as
 * its type says.
 *
 * Made by cbindgen from bindings/c/src: do not change it by hand.
 */

#ifndef TENURE_H
#define TENURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The timeout of an acquire that waits for as long as it takes.
#define TENURE_WAIT_FOREVER -1

// The timeout of an acquire that fails at once if the lock is busy.
#define TENURE_NO_WAIT 0

// The lock file `<target>.lock` exists while the lock is held, and programs that use only lock files are excluded: the
// default.
#define TENURE_STYLE_LOCK_FILE 0

// The target itself is locked with `flock(2)`, which excludes `flock(1)` and similar programs. There are shared locks.
#define TENURE_STYLE_FLOCK 1

// After the longest hold, the overrun is reported: the default.
#define TENURE_OVERRUN_REPORT 0

// After the longest hold, the lock is released, and `tenure_check` fails.
#define TENURE_OVERRUN_REVOKE 1

// An acquire waits for a busy lock: the default.
#define TENURE_IF_BUSY_WAIT 0

// It fails at once with `TENURE_BUSY`, whatever its timeout.
#define TENURE_IF_BUSY_SKIP 1

// It waits. If another such acquire waits already, it fails at once with `TENURE_SKIPPED`: a run is yet to begin.
#define TENURE_IF_BUSY_QUEUE_ONE 2

// It asks the holder to end by SIGTERM, and ends it by SIGKILL after the grace.
#define TENURE_IF_BUSY_REPLACE 3

// The result of a function. Decide by it, never by an error's text. Later versions may add codes.
typedef enum {
  // No error.
  TENURE_OK = 0,
  // Another holder had the lock until the timeout.
  TENURE_BUSY = 1,
  // The acquire would wait for its own end.
  TENURE_WOULD_DEADLOCK = 2,
  // The lock was held and is held no longer.
  TENURE_LOST = 3,
  // The kernel, the file system, the server or this build lacks what the lock needs.
  TENURE_UNSUPPORTED = 4,
  // A file or folder that is no lock has the name of the lock file or of its anchor.
  TENURE_OBSTRUCTED = 5,
  // The path cannot be a target.
  TENURE_INVALID_TARGET = 6,
  // The system denies the access to this user.
  TENURE_PERMISSION_DENIED = 7,
  // The lock's files cannot be created.
  TENURE_CANNOT_CREATE = 8,
  // No server answers that can keep the lock.
  TENURE_UNREACHABLE = 9,
  // A server answers and accepts no writes.
  TENURE_READ_ONLY = 10,
  // An error of the system that is none of these: `tenure_error_errno`.
  TENURE_IO = 11,
  // An argument is `NULL`, out of range, or not UTF-8.
  TENURE_INVALID_ARGUMENT = 12,
  // A fault of the library itself. Please report it.
  TENURE_INTERNAL = 13,
  // The run is not needed: another acquire waits already, or a success is recent (`tenure_options_set_if_busy`,
  // `tenure_options_set_not_more_often_than`).
  TENURE_SKIPPED = 14,
} tenure_code;

// What is known of the time in which a lock was suspended. Only `TENURE_MEANWHILE_NOBODY` is false in C.
typedef enum {
  // It is proven that no other process held the lock.
  TENURE_MEANWHILE_NOBODY = 0,
  // Another process held the lock.
  TENURE_MEANWHILE_OTHERS = 1,
  // No process with Tenure held the lock, and nothing proves that no other one did.
  TENURE_MEANWHILE_UNKNOWN = 2,
} tenure_meanwhile;

// An acquire that is under way: `tenure_begin`. Free it with `tenure_acquiring_free`, which ends the wait. One thread uses it at a
// time. In a forked child it acquires nothing.
typedef struct tenure_acquiring tenure_acquiring;

// An error: its code, and a sentence that names the path, the holder, the likely cause and a remedy. Free it with
// `tenure_error_free`.
typedef struct tenure_error tenure_error;

// A held lock. Release it with `tenure_release`, or free it with `tenure_guard_free`. One thread uses it at a time. In a forked
// child it holds nothing.
typedef struct tenure_guard tenure_guard;

// A lock, opened once and acquired many times, by several threads at once. Free it with `tenure_lock_free`.
typedef struct tenure_lock tenure_lock;

// The options of a lock: `tenure_open` copies them. Free them with `tenure_options_free`.
typedef struct tenure_options tenure_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Returns the version of the library, such as `0.1.0`. The text is static.
const char *tenure_version(void);

// Starts to acquire a lock, without waiting for its holder, for an event loop and for a wait that the program may end: wait until
// `tenure_acquiring_fd` is readable or `tenure_acquiring_left` is over, then call `tenure_acquiring_poll`. `timeout` is that of
// `tenure_acquire`. It has a place in the queue until `tenure_acquiring_free`.
//
// It belongs to no thread: two acquires of one thread exclude each other, none is a `TENURE_WOULD_DEADLOCK`, and any thread may
// release the guard.
tenure_code tenure_begin(const tenure_lock *lock,
                         int64_t timeout,
                         tenure_acquiring **acquiring,
                         tenure_error **error);

// Starts to acquire a shared lock: as `tenure_begin`, for what `tenure_acquire_shared` acquires.
tenure_code tenure_begin_shared(const tenure_lock *lock,
                                int64_t timeout,
                                tenure_acquiring **acquiring,
                                tenure_error **error);

// Returns the descriptor that is readable when `tenure_acquiring_poll` should be called. It stays the library's: do not read from
// it, and do not close it. It is closed by `tenure_acquiring_free`. -1 for `NULL`.
int32_t tenure_acquiring_fd(const tenure_acquiring *acquiring);

// Returns the milliseconds, rounded up, after which `tenure_acquiring_poll` should be called even if the descriptor is not
// readable: 0 once the timeout is over, -1 if the wait has no limit, or has one that it ends by itself, as for a server.
int64_t tenure_acquiring_left(const tenure_acquiring *acquiring);

// Writes the guard to `guard`, or `NULL` while the lock is busy: both are `TENURE_OK`. Does not block.
//
// Fails as `tenure_acquire`; with `TENURE_BUSY` once the timeout is over. After a guard and after an error the acquire has ended,
// and only `tenure_acquiring_free` is left; a further call fails with `TENURE_INVALID_ARGUMENT`.
tenure_code tenure_acquiring_poll(tenure_acquiring *acquiring,
                                  tenure_guard **guard,
                                  tenure_error **error);

// Ends the wait, if it lasts, and frees the acquire. A lock that was granted and not polled is released.
void tenure_acquiring_free(tenure_acquiring *acquiring);

// Returns the code of an error; `TENURE_OK` for `NULL`.
tenure_code tenure_error_code(const tenure_error *error);

// Returns the sentence of an error, valid until the error is freed; an empty text for `NULL`. It names the path, the holder
// if that is known, the likely cause and a remedy. Control characters of other programs' texts are escaped.
const char *tenure_error_message(const tenure_error *error);

// Returns the pid of the holder that an error names; 0 if it names none.
int64_t tenure_error_holder_pid(const tenure_error *error);

// Returns the holder that an error names, as JSON (the `holder` of `tenure status --json`), valid until the error is freed;
// `NULL` if it names none.
const char *tenure_error_holder_json(const tenure_error *error);

// Returns the circle of waits that a `TENURE_WOULD_DEADLOCK` found, as a sentence that names each program, the lock that it holds
// and the one that it waits for; `NULL` if the error has none. Valid until the error is freed. Control characters of other
// programs' texts are escaped.
const char *tenure_error_circle(const tenure_error *error);

// Returns the circle of waits that a `TENURE_WOULD_DEADLOCK` found, as JSON (one of the `deadlocks` of
// `tenure status --deadlocks --json`), valid until the error is freed; `NULL` if the error has none. The last wait of the circle
// is the one that failed.
const char *tenure_error_circle_json(const tenure_error *error);

// Returns the system's error number (`errno`); 0 if the system reported no error.
int tenure_error_errno(const tenure_error *error);

// Frees an error.
void tenure_error_free(tenure_error *error);

// Releases the lock and frees the guard, also where it fails.
//
// Fails with `TENURE_LOST` if the lock was held no longer, also by a resume that failed. A suspended lock is given up. `NULL` is an
// error.
tenure_code tenure_release(tenure_guard *guard,
                           tenure_error **error);

// Frees a guard, and releases the lock. A failed release is not reported.
void tenure_guard_free(tenure_guard *guard);

// Checks that the lock is held at this moment. Fails with `TENURE_LOST` if it was broken, revoked or removed.
tenure_code tenure_check(const tenure_guard *guard, tenure_error **error);

// Returns the fencing token of this tenure, which is larger than that of every earlier one; 0 for a tenure without one (a
// shared lock, or a lock without a record), while the lock is suspended, and after a resume that failed: nothing may be written
// then. It is below 2^53.
uint64_t tenure_fence(const tenure_guard *guard);

// Returns the number of the slot that is held, from 0: the lowest that was free (`tenure_options_set_slots`). -1 for a lock
// without slots.
int32_t tenure_slot(const tenure_guard *guard);

// Records that the work succeeded, for later acquires with `tenure_options_set_not_more_often_than`. Call it before the release.
//
// Fails with `TENURE_UNSUPPORTED` if the lock was opened without that option, and with `TENURE_LOST` if it is held no longer.
tenure_code tenure_mark_successful(const tenure_guard *guard,
                                   tenure_error **error);

// Notes the exit code of the work under the lock, for the history. Call it before the release.
void tenure_set_exit_code(const tenure_guard *guard, int32_t code);

// Returns whether the previous holder died while it held the lock, so that the protected data may be half-written.
bool tenure_previous_crashed(const tenure_guard *guard);

// Returns the previous holder, if it died while it held the lock, as JSON (the `holder` of `tenure status --json`); `NULL` if
// it released the lock. Free the text with `tenure_text_free`.
char *tenure_previous_json(const tenure_guard *guard);

// Changes the holder's label, in the record too.
tenure_code tenure_set_label(const tenure_guard *guard, const char *label, tenure_error **error);

// Lets others hold the lock for a while, as for a long network call, until `tenure_resume`. The guard stays the caller's:
// `tenure_release` and `tenure_guard_free` give a suspended lock up.
//
// Fails with `TENURE_UNSUPPORTED` for a shared lock, one with slots, without a record or on a server, and while another guard of
// this process holds it too. The lock stays held then. After any other error it is given up.
tenure_code tenure_suspend(tenure_guard *guard,
                           tenure_error **error);

// Acquires a suspended lock again, before processes that wait already, waiting for `timeout` milliseconds at most, as
// `tenure_acquire` does. The guard holds it then, with a new fencing token. Writes to `meanwhile`, unless that is `NULL`, what is
// known of the time in which it was suspended: what was read before must be read again unless that is
// `TENURE_MEANWHILE_NOBODY`.
//
// Fails with `TENURE_INVALID_ARGUMENT` if the lock is not suspended. After any other error it is given up.
tenure_code tenure_resume(tenure_guard *guard,
                          int64_t timeout,
                          tenure_meanwhile *meanwhile,
                          tenure_error **error);

// Writes a descriptor to `fd` that becomes readable when the lock is lost: within about a second of the loss, or as soon as the
// longest hold ends it (`TENURE_OVERRUN_REVOKE`). Then `tenure_check` fails. For `poll(2)` and event loops, so that the work
// under the lock can be stopped.
//
// It stays the library's: do not read from it, and do not close it. It is closed when the guard is freed or released, and each
// call for one guard writes the same. It stays silent while the lock is suspended. Fails with `TENURE_LOST` if the lock is
// suspended or was given up.
tenure_code tenure_lost_fd(tenure_guard *guard,
                           int32_t *fd,
                           tenure_error **error);

// Returns this holder as other programs see it, as JSON (the `holder` of `tenure status --json`); `NULL` if the guard holds
// nothing. Free the text with `tenure_text_free`.
char *tenure_holder_json(const tenure_guard *guard);

// Returns the record of the lock as other programs can read it in the lock file, as JSON: `{}` for a lock without one, `NULL` if
// the guard holds nothing. Free the text with `tenure_text_free`.
char *tenure_record_json(const tenure_guard *guard);

// Returns whether the lock is one on a server, whose lease may end. Writes to `lost_in`, unless that is `NULL`, the milliseconds
// until `tenure_check` fails if the lease is not renewed, and to `free_in`, unless that is `NULL`, those until the server may
// grant the lock to another holder: the work under the lock must have stopped by then.
bool tenure_lease(const tenure_guard *guard,
                  int64_t *lost_in,
                  int64_t *free_in);

// Updates the date by which programs that know only lock files detect a stale one. The library does so by itself, unless
// `tenure_options_set_refresh_interval` says otherwise.
tenure_code tenure_refresh(const tenure_guard *guard,
                           tenure_error **error);

// Records the command that this holder runs under the lock and whose end it waits for, by its pid. `line`, its command line, may
// be `NULL`. Others see both processes, and an acquire by that command, or by a process that it starts, fails at once with
// `TENURE_WOULD_DEADLOCK` instead of waiting for itself.
tenure_code tenure_set_command(const tenure_guard *guard,
                               int64_t pid,
                               const char *line,
                               tenure_error **error);

// Opens the lock of `target`, any path, which need not exist. Nothing is locked yet. `options` may be `NULL` for the default
// ones.
tenure_code tenure_open(const char *target,
                        const tenure_options *options,
                        tenure_lock **lock,
                        tenure_error **error);

// Frees a lock. Guards of it stay valid, and hold.
void tenure_lock_free(tenure_lock *lock);

// Acquires a lock, waiting for `timeout` milliseconds at most, for ever with `TENURE_WAIT_FOREVER`, and not at all with
// `TENURE_NO_WAIT`. A signal does not end the wait.
//
// Fails with `TENURE_BUSY` at the timeout; the error names the holder. If the previous holder died while it held the lock, the
// acquire succeeds, and `tenure_previous_json` names the dead holder.
tenure_code tenure_acquire(const tenure_lock *lock,
                           int64_t timeout,
                           tenure_guard **guard,
                           tenure_error **error);

// Acquires a shared lock, which excludes exclusive ones alone. It needs `TENURE_STYLE_FLOCK`, or a server's target.
// Otherwise as `tenure_acquire`.
tenure_code tenure_acquire_shared(const tenure_lock *lock, int64_t timeout, tenure_guard **guard, tenure_error **error);

// Acquires several locks, all or none: of files, of servers, or both. Writes their guards to `guards`, a place for `count`
// pointers, in the order of `locks`. `timeout`, as in `tenure_acquire`, is that of all of them together.
//
// All programs acquire in the same order, as `tenure run` with several targets does, whatever the order of `locks`. So they never
// wait for each other in a circle. With a `count` of 0 nothing is acquired.
//
// Fails as the first acquire that fails; those before it are released by then, and all `guards` are `NULL`. Fails with
// `TENURE_INVALID_TARGET` if a lock is named twice.
tenure_code tenure_acquire_all(const tenure_lock *const *locks,
                               size_t count,
                               int64_t timeout,
                               tenure_guard **guards,
                               tenure_error **error);

// Returns the default options.
tenure_options *tenure_options_new(void);

// Frees options.
void tenure_options_free(tenure_options *options);

// Sets a name for the holder, which appears in the record, in errors and in `tenure status`. At most 1 KiB of it is kept.
tenure_code tenure_options_set_label(tenure_options *options,
                                     const char *label,
                                     tenure_error **error);

// Sets how the lock appears to foreign programs: `TENURE_STYLE_LOCK_FILE` or `TENURE_STYLE_FLOCK`.
tenure_code tenure_options_set_style(tenure_options *options, int32_t style, tenure_error **error);

// Sets the intended maximum duration of a tenure, in milliseconds. `tenure_options_set_overrun` sets what happens after it.
tenure_code tenure_options_set_max_hold(tenure_options *options,
                                        uint64_t milliseconds,
                                        tenure_error **error);

// Sets what happens after the longest hold: `TENURE_OVERRUN_REPORT` or `TENURE_OVERRUN_REVOKE`.
tenure_code tenure_options_set_overrun(tenure_options *options, int32_t overrun, tenure_error **error);

// Sets the age, in milliseconds, from which on a live holder's lock may be stolen. By default a lock is never stolen.
tenure_code tenure_options_set_steal_after(tenure_options *options, uint64_t milliseconds, tenure_error **error);

// Sets how often the date is updated by which programs that know only lock files detect a stale one, in milliseconds. 600000 (10
// minutes) by default, and at most a third of the longest hold. With `UINT64_MAX` only `tenure_refresh` updates it, which saves
// a thread of the library.
tenure_code tenure_options_set_refresh_interval(tenure_options *options,
                                                uint64_t milliseconds,
                                                tenure_error **error);

// Sets the age from which on reports call a record `too-old`, in milliseconds. 1800000 (30 minutes) by default. No lock is taken
// over for it.
tenure_code tenure_options_set_stale_after(tenure_options *options,
                                           uint64_t milliseconds,
                                           tenure_error **error);

// Sets the age from which on a lock file without a valid pid may be taken over, in milliseconds. 5000 by default.
tenure_code tenure_options_set_malformed_grace(tenure_options *options, uint64_t milliseconds, tenure_error **error);

// Sets whether this process may acquire the lock again while it holds it. The tenure then ends with the last guard. Off by
// default.
tenure_code tenure_options_set_reentrant(tenure_options *options,
                                         bool value,
                                         tenure_error **error);

// Sets whether an acquire that would wait for its own end fails at once with `TENURE_WOULD_DEADLOCK`. On by default. Turn it
// off where a thread acquires and another one releases.
tenure_code tenure_options_set_deadlock_check(tenure_options *options,
                                              bool value,
                                              tenure_error **error);

// Sets whether the lock keeps a record. On by default. Without a record the lock is the bare kernel lock on the target: it
// has no fence, names no holder, and writes nothing.
tenure_code tenure_options_set_record(tenure_options *options,
                                      bool value,
                                      tenure_error **error);

// Sets whether missing parent folders of the target are created. On by default.
tenure_code tenure_options_set_create_parents(tenure_options *options, bool value, tenure_error **error);

// Sets the permission bits of the lock's files, regardless of the umask: `0666` shares a lock between users in `/tmp`.
tenure_code tenure_options_set_mode(tenure_options *options, uint32_t mode, tenure_error **error);

// Sets how many tenures of this lock are kept in its history, beside as many failed waits: at most 10000. 0, the default, keeps
// none. `tenure_history` returns them.
tenure_code tenure_options_set_history(tenure_options *options,
                                       uint32_t tenures,
                                       tenure_error **error);

// Sets that up to `slots` may hold the lock at once, from 1 to 1000, each with a slot of its own: `tenure_slot`. At any time, at
// most as many hold as the smallest number says that any of the holders was opened with.
tenure_code tenure_options_set_slots(tenure_options *options,
                                     uint32_t slots,
                                     tenure_error **error);

// Sets what an acquire does where the lock is busy: one of `TENURE_IF_BUSY_`.
tenure_code tenure_options_set_if_busy(tenure_options *options, int32_t if_busy, tenure_error **error);

// Sets how long `TENURE_IF_BUSY_REPLACE` leaves the holder to end, in milliseconds. 5000 by default.
tenure_code tenure_options_set_grace(tenure_options *options, uint64_t milliseconds, tenure_error **error);

// Sets that an acquire fails with `TENURE_SKIPPED` if the last tenure with `tenure_mark_successful` began less than this ago, in
// milliseconds.
tenure_code tenure_options_set_not_more_often_than(tenure_options *options,
                                                   uint64_t milliseconds,
                                                   tenure_error **error);

// Frees a text that a function of this library returned and whose description names this function.
void tenure_text_free(char *text);

// Writes the status of the lock of `target` to `json`, in the form of `tenure status --json`. Free the text with
// `tenure_text_free`. No process is disturbed.
tenure_code tenure_status(const char *target, char **json, tenure_error **error);

// Writes the locks below `dir` that are held or stale to `json`: a list, each entry in the form of `tenure status --json`.
// With `recursive` it also looks into the folders below. Free the text with `tenure_text_free`.
tenure_code tenure_list(const char *dir,
                        bool recursive,
                        char **json,
                        tenure_error **error);

// Writes the slots of `target` that are held or stale to `json`: a list in the order of their numbers, each entry in the form of
// `tenure status --json`. Free the text with `tenure_text_free`.
tenure_code tenure_slots(const char *target,
                         char **json,
                         tenure_error **error);

// Writes the history of the lock of `target` to `json`: a list of who held it when and which waits failed, the oldest first,
// each entry as in the `history` of `tenure history --json`. It is empty where no holder had `tenure_options_set_history`. Free
// the text with `tenure_text_free`.
tenure_code tenure_history(const char *target,
                           char **json,
                           tenure_error **error);

// Writes the circles of waits in which a lock in `dir` has a part to `json`, in the form of `tenure status --deadlocks --json`:
// each program of a circle holds a lock and waits for the next one's, so that none of them goes on. With `recursive` it also
// looks into the folders below. Free the text with `tenure_text_free`.
//
// An acquire that would close a circle fails at once (`tenure_error_circle_json`), so these are of programs that turned that
// check off. Only what is proven is reported: no acquires of `tenure_begin`, and no programs that only know `flock(2)`. Fails
// with `TENURE_UNSUPPORTED` for a server.
tenure_code tenure_deadlocks(const char *dir,
                             bool recursive,
                             char **json,
                             tenure_error **error);

// Breaks the lock of `target` on an operator's decision. The lock of a live holder, or of one whose liveness is unknown, is
// refused with `TENURE_BUSY` without `force`; two processes may then work at once. `broken` may be `NULL`; otherwise it becomes
// whether there was a lock to break.
tenure_code tenure_break_lock(const char *target,
                              bool force,
                              bool *broken,
                              tenure_error **error);

// Removes this process's lock files when a signal such as SIGINT or SIGTERM ends it, and at `exit(3)`. Signals for which the
// program has its own handlers are left to them. Without this a dead holder's lock is taken over at once all the same.
tenure_code tenure_install_cleanup(tenure_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TENURE_H */
