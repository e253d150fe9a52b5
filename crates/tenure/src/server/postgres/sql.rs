//! Every statement, and the two tables that they use.

/// Created at the first use. A role that may not create them gets an error with this text in it.
pub(super) const TABLES: &str = "\
CREATE SCHEMA IF NOT EXISTS tenure;
CREATE SEQUENCE IF NOT EXISTS tenure.fence;
CREATE TABLE IF NOT EXISTS tenure.locks (
  name text PRIMARY KEY,
  fence bigint NOT NULL,
  state text NOT NULL,        -- held, breaking, released, aborted
  backend integer NOT NULL,   -- pg_backend_pid() of the holder's session
  lease_ms bigint NOT NULL,
  renewer text NOT NULL,      -- JSON: the process that renews the lease
  record text NOT NULL,       -- JSON: the holder, as other processes see it
  readers jsonb NOT NULL DEFAULT '{}', -- the sessions that share the lock, and their leases
  changed_at timestamptz NOT NULL DEFAULT now()
);";

/// The first statements of every session. A function or an operator in `public`, or in a schema that the role's own
/// `search_path` names, may match the arguments better than the server's own. With this path none of them is considered.
pub(super) const FIRST: &str = "\
SET search_path = pg_catalog, pg_temp; SET default_transaction_isolation = 'read committed'; ";

/// How long a statement waits for a row or a table before it is left to a session on which nothing else waits, in
/// milliseconds. Other rows wait behind it as long.
pub(super) const BRIEFLY_MS: u64 = 10;

/// The next statements of a session, with its lease in milliseconds: how long it may be idle, how soon the server
/// notices a client that has vanished, how long a statement may run, and how long it may wait for a row. Timeouts that would end the session sooner are
/// reset, where the server has them (`transaction_timeout` is of version 17).
pub(super) fn begin(lease_ms: u128, statement_ms: u128) -> String {
    let third = (lease_ms / 3000).max(1);
    format!(
        "{FIRST}SET idle_session_timeout = '{lease_ms}ms'; SET tcp_user_timeout = '{lease_ms}ms'; \
         SET tcp_keepalives_idle = '{third}s'; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3; \
         SET lock_timeout = '{BRIEFLY_MS}ms'; SET idle_in_transaction_session_timeout = 0; \
         SELECT pg_catalog.set_config('transaction_timeout', '0', false) \
         WHERE pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL; \
         SET statement_timeout = '{statement_ms}ms'; \
         SELECT pg_catalog.set_config('synchronous_commit', 'on', false) \
         WHERE pg_catalog.current_setting('synchronous_commit') = 'off'; \
         {WHO}"
    )
}

/// The backend of this session, the server's version, whether it is a standby, whether it accepts writes, and when it was
/// started, which tells it from the other servers of its cluster.
pub(super) const WHO: &str = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_version_num'), \
                              pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only'), \
                              EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time())";

/// The identifier that a cluster got when it was created, which its standbys have as well.
pub(super) const SYSTEM: &str = "SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()";

pub(super) const RENEW: &str = "SELECT pg_catalog.pg_backend_pid()";

/// Takes each of these advisory locks that is free, shared where $2 says so: for each name its place, its number, and
/// whether it was taken. A lock that the session has already is taken once more.
pub(super) const TRY_LOCK: &str = "\
SELECT n.at, n.number,
  CASE WHEN n.shared THEN pg_catalog.pg_try_advisory_lock_shared(n.number)
    ELSE pg_catalog.pg_try_advisory_lock(n.number) END
FROM (
  SELECT a.at, a.shared, pg_catalog.hashtextextended(a.name, 0::pg_catalog.int8) AS number
  FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.bool[]))
    WITH ORDINALITY AS a(name, shared, at)
) n";

/// Unlocks what a failed [`TRY_LOCK`] may have taken, but for the numbers in $3.
pub(super) const UNDO_TRY: &str = "\
SELECT CASE WHEN n.shared THEN pg_catalog.pg_advisory_unlock_shared(n.number)
  ELSE pg_catalog.pg_advisory_unlock(n.number) END
FROM (
  SELECT a.shared, pg_catalog.hashtextextended(a.name, 0::pg_catalog.int8) AS number
  FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.bool[]))
    AS a(name, shared)
) n
WHERE NOT n.number = ANY ($3)";

/// The places of those names for whose exclusive lock a session waits.
pub(super) const AWAITED: &str = "\
SELECT n.at FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS n(name, at)
WHERE pg_catalog.hashtextextended(n.name, 0::pg_catalog.int8) IN (
  SELECT (l.classid::pg_catalog.int8 << 32) | l.objid::pg_catalog.int8
  FROM pg_catalog.pg_locks l
  WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.mode = 'ExclusiveLock' AND NOT l.granted
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))";

/// Waits in the server's queue for an advisory lock. Returns its number.
pub(super) const LOCK: &str = "\
SELECT pg_catalog.hashtextextended($1, 0::pg_catalog.int8),
  pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended($1, 0::pg_catalog.int8))";

/// As above, for a shared lock.
pub(super) const LOCK_SHARED: &str = "\
SELECT pg_catalog.hashtextextended($1, 0::pg_catalog.int8),
  pg_catalog.pg_advisory_lock_shared(pg_catalog.hashtextextended($1, 0::pg_catalog.int8))";

/// Unlocks each of these numbers once, the shared lock where $2 says so: for each its place, and whether it was locked.
pub(super) const UNLOCK: &str = "\
SELECT k.at, CASE WHEN k.shared THEN pg_catalog.pg_advisory_unlock_shared(k.number)
  ELSE pg_catalog.pg_advisory_unlock(k.number) END
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.int8[]), pg_catalog.unnest($2::pg_catalog.bool[]))
  WITH ORDINALITY AS k(number, shared, at)";

/// Writes the end of a tenure into the row of that fence, and lets the session know that it did.
pub(super) const RELEASE: &str = "\
UPDATE tenure.locks SET state = $3, record = $4, changed_at = pg_catalog.now()
WHERE name = $1 AND fence = $2
RETURNING pg_catalog.set_config('tenure.released', fence::pg_catalog.text, false)";

/// Unlocks a number if the session has committed the [end](RELEASE) of that fence. NULL if it has not: then nothing is
/// unlocked.
pub(super) const UNLOCK_RELEASED: &str = "\
SELECT CASE WHEN pg_catalog.current_setting('tenure.released', true) = $1::pg_catalog.int8::pg_catalog.text
  THEN pg_catalog.pg_advisory_unlock($2) END";

/// Makes the server report the breaks of locks: [`NOTIFY_BREAK`]. A session that waits must not listen, because the
/// server keeps all notifications, of every program, until each listener has read them.
pub(super) const LISTEN: &str = "LISTEN tenure";

/// The last holder, and the readers since.
pub(super) const LAST: &str =
    "SELECT fence, state, lease_ms, renewer, record, readers::pg_catalog.text FROM tenure.locks WHERE name = $1";

/// As above, once a break in progress is over: that marks the row, and then ends the session. It is a write to disk.
pub(super) const LAST_AFTER_ALL: &str = "\
SELECT fence, state, lease_ms, renewer, record, readers::pg_catalog.text FROM tenure.locks WHERE name = $1 FOR SHARE";

/// As above, and fails where the row is locked.
pub(super) const LAST_AT_ONCE: &str = "\
SELECT fence, state, lease_ms, renewer, record, readers::pg_catalog.text FROM tenure.locks WHERE name = $1
FOR SHARE NOWAIT";

/// The grant: the fence and the record in one commit, so that a crash of the server gives no fence twice. No row where the
/// last holder did not release, unless its fence is $5; nor where there are readers that are not in $6; nor where the next
/// fence is not greater than the last. So a grant that the server executes late, when its session has the lock no more,
/// changes no other holder's row.
pub(super) const GRANT: &str = "\
INSERT INTO tenure.locks AS l (name, fence, state, backend, lease_ms, renewer, record)
VALUES ($1, pg_catalog.nextval('tenure.fence'::pg_catalog.regclass), 'held', $4, $2, $3, $3)
ON CONFLICT (name) DO UPDATE SET fence = EXCLUDED.fence, state = EXCLUDED.state, backend = EXCLUDED.backend,
  lease_ms = EXCLUDED.lease_ms, renewer = EXCLUDED.renewer, record = EXCLUDED.record, readers = EXCLUDED.readers,
  changed_at = pg_catalog.now()
WHERE EXCLUDED.fence > l.fence AND (l.state = 'released' OR l.fence = $5)
  AND l.readers <@ COALESCE($6::pg_catalog.text, '{}')::pg_catalog.jsonb
RETURNING l.fence";

/// The grant of a shared lock: adds the word $3 of a session under its key $2. No row where the last exclusive holder did
/// not release, unless its fence is $4: its lease is over then, and no other reader waits for it again.
pub(super) const SHARE: &str = "\
INSERT INTO tenure.locks AS l (name, fence, state, backend, lease_ms, renewer, record, readers)
VALUES ($1, 0, 'released', 0, 0, '', '',
  pg_catalog.jsonb_build_object($2::pg_catalog.text, $3::pg_catalog.text::pg_catalog.jsonb))
ON CONFLICT (name) DO UPDATE SET readers = l.readers || EXCLUDED.readers,
  state = CASE WHEN l.state = 'released' THEN 'released' ELSE 'aborted' END, changed_at = pg_catalog.now()
WHERE l.state = 'released' OR l.state = 'aborted' OR l.fence = $4
RETURNING l.fence, l.state, l.record, (SELECT pg_catalog.count(*) FROM pg_catalog.jsonb_object_keys(l.readers))";

/// Removes words.
pub(super) const UNSHARE: &str = "\
UPDATE tenure.locks SET readers = readers - $2::pg_catalog.text[], changed_at = pg_catalog.now()
WHERE name = $1 AND readers ?| $2::pg_catalog.text[] RETURNING 1";

/// The last fence of a name, and the sequence's last value.
pub(super) const FENCES: &str = "SELECT fence, pg_catalog.pg_sequence_last_value('tenure.fence'::pg_catalog.regclass) FROM tenure.locks WHERE name = $1";

/// Replaces a holder's record. A lock that is being broken may be released, and not be held on.
pub(super) const SHOW: &str = "\
UPDATE tenure.locks SET state = $3, record = $4, changed_at = pg_catalog.now()
WHERE name = $1 AND fence = $2 AND (state = 'held' OR $3 <> 'held')
RETURNING 1";

/// As above, for many names, each of which is there once; where there is a key in $5, removes that word. It does not wait
/// for rows that others have locked: returns the names whose rows it has written.
pub(super) const WRITE_ALL: &str = "\
WITH asked AS (
  SELECT * FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.int8[]),
    pg_catalog.unnest($3::pg_catalog.text[]), pg_catalog.unnest($4::pg_catalog.text[]),
    pg_catalog.unnest($5::pg_catalog.text[])) AS a(name, fence, state, record, reader)
), unlocked AS (
  SELECT l.name FROM tenure.locks l JOIN asked a ON l.name = a.name
  WHERE CASE WHEN a.reader IS NULL THEN l.fence = a.fence AND (l.state = 'held' OR a.state <> 'held')
    ELSE l.readers ? a.reader END
  FOR UPDATE OF l SKIP LOCKED
)
UPDATE tenure.locks l SET state = COALESCE(a.state, l.state), record = COALESCE(a.record, l.record),
  readers = CASE WHEN a.reader IS NULL THEN l.readers ELSE l.readers - a.reader END, changed_at = pg_catalog.now()
FROM asked a JOIN unlocked u ON u.name = a.name WHERE l.name = a.name
RETURNING l.name";

/// The sessions that have or await the advisory lock of a name. Its 64 bits are two columns there.
pub(super) const QUEUE: &str = "\
SELECT l.pid, l.granted, l.mode, a.application_name
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND ((l.classid::pg_catalog.int8 << 32) | l.objid::pg_catalog.int8)
      = pg_catalog.hashtextextended($1, 0::pg_catalog.int8)
ORDER BY l.granted DESC, l.waitstart";

/// The sessions that have or await any advisory lock, and its number.
pub(super) const QUEUES: &str = "\
SELECT l.pid, l.granted, l.mode, (l.classid::pg_catalog.int8 << 32) | l.objid::pg_catalog.int8
FROM pg_catalog.pg_locks l
WHERE l.locktype = 'advisory' AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
ORDER BY l.granted DESC, l.waitstart";

/// The row of a name.
pub(super) const RECORD: &str =
    "SELECT fence, state, backend, record, readers::pg_catalog.text FROM tenure.locks WHERE name = $1";

/// As above, for the names that begin with $1 and are held, or were when their holder died; then the name, and the number of
/// its advisory lock.
pub(super) const BELOW: &str = "\
SELECT fence, state, backend, record, readers::pg_catalog.text, name,
  pg_catalog.hashtextextended(name, 0::pg_catalog.int8)
FROM tenure.locks
WHERE pg_catalog.left(name, pg_catalog.length($1)) = $1 AND (state <> 'released' OR readers <> '{}') ORDER BY name";

/// The names in $2, and those that begin with $1: the session that has the advisory lock, and the row.
pub(super) const SLOTS: &str = "\
SELECT n.name, l.pid, r.fence, r.state, r.backend, r.record, r.renewer
FROM (SELECT pg_catalog.unnest($2::pg_catalog.text[]) AS name
      UNION SELECT name FROM tenure.locks WHERE pg_catalog.left(name, pg_catalog.length($1)) = $1) n
  LEFT JOIN tenure.locks r ON r.name = n.name
  LEFT JOIN pg_catalog.pg_locks l ON l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    AND ((l.classid::pg_catalog.int8 << 32) | l.objid::pg_catalog.int8)
        = pg_catalog.hashtextextended(n.name, 0::pg_catalog.int8)";

/// Marks the holder of this fence as not crashed.
pub(super) const MARK_BROKEN: &str = "\
UPDATE tenure.locks SET state = 'released', changed_at = pg_catalog.now()
WHERE name = $1 AND fence = $2 AND state <> 'released' RETURNING 1";

/// Ends a session and waits for its end, for at most so many milliseconds.
pub(super) const END_BACKEND: &str = "SELECT pg_catalog.pg_terminate_backend($1, $2)";
pub(super) const RUNS: &str = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = $1";

/// Whether this user may end that session, how many advisory locks it has in this database, and whether it is named as those
/// of Tenure, $2.
pub(super) const MAY_END: &str = "\
SELECT me.rolsuper
  OR pg_catalog.pg_has_role(a.usesysid, 'USAGE')
  OR (NOT them.rolsuper AND pg_catalog.pg_has_role('pg_signal_backend'::pg_catalog.name, 'USAGE')),
  (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.pid = $1 AND l.granted),
  a.application_name = $2
FROM pg_catalog.pg_stat_activity a
  JOIN pg_catalog.pg_roles them ON them.oid = a.usesysid
  JOIN pg_catalog.pg_roles me ON me.rolname = CURRENT_USER
WHERE a.pid = $1";

/// Asks the holder of this fence, which has other locks in its session, to give the lock up.
pub(super) const ASK_BREAK: &str = "\
UPDATE tenure.locks SET state = 'breaking', changed_at = pg_catalog.now()
WHERE name = $1 AND fence = $2 AND state = 'held'";
pub(super) const NOTIFY_BREAK: &str = "SELECT pg_catalog.pg_notify('tenure', $1::pg_catalog.text)";

/// Asks the sessions with these words to give their shares up.
pub(super) const ASK_SHARES: &str = "\
UPDATE tenure.locks l SET changed_at = pg_catalog.now(), readers = (
  SELECT pg_catalog.jsonb_object_agg(r.key, CASE WHEN r.key = ANY ($2::pg_catalog.text[])
    THEN r.value || pg_catalog.jsonb_build_object('breaking', $3::pg_catalog.bool) ELSE r.value END)
  FROM pg_catalog.jsonb_each(l.readers) AS r)
WHERE name = $1 AND readers ?| $2::pg_catalog.text[]";

/// Whether that was asked.
pub(super) const IS_BREAKING_SHARE: &str =
    "SELECT 1 FROM tenure.locks WHERE name = $1 AND (readers -> $2::pg_catalog.text ->> 'breaking') = 'true'";

/// Takes that back.
pub(super) const TAKE_BREAK_BACK: &str = "\
UPDATE tenure.locks SET state = 'held', changed_at = pg_catalog.now()
WHERE name = $1 AND fence = $2 AND state = 'breaking'";

/// Whether a break was asked for.
pub(super) const IS_BREAKING: &str = "SELECT 1 FROM tenure.locks WHERE name = $1 AND fence = $2 AND state = 'breaking'";
