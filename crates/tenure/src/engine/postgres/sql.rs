//! Every statement, and the two tables that they speak of.

/// Made at the first use. A role that may not make them gets an error with this text in it.
pub(super) const TABLES: &str = "\
CREATE SCHEMA IF NOT EXISTS tenure;
CREATE SEQUENCE IF NOT EXISTS tenure.fence;
CREATE TABLE IF NOT EXISTS tenure.locks (
  name text PRIMARY KEY,
  fence bigint NOT NULL,
  state text NOT NULL,        -- held, released, aborted
  backend integer NOT NULL,   -- pg_backend_pid() of the holder's session
  lease_ms bigint NOT NULL,
  keeper text NOT NULL,       -- JSON: the process that renews the lease
  record text NOT NULL,       -- JSON: who holds, as others see it
  changed_at timestamptz NOT NULL DEFAULT now()
);";

/// What a session is told first, with its lease in milliseconds: how long it may be idle, and how soon the server notices
/// that we are gone without a word.
pub(super) fn begin(lease_ms: u128) -> String {
    let third = (lease_ms / 3000).max(1);
    format!(
        "SET idle_session_timeout = '{lease_ms}ms'; SET statement_timeout = 0; SET tcp_user_timeout = '{lease_ms}ms'; \
         SET tcp_keepalives_idle = '{third}s'; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
         {WHO}"
    )
}

/// Which backend we speak to, and how old the server is.
pub(super) const WHO: &str = "SELECT pg_backend_pid(), current_setting('server_version_num')";

pub(super) const RENEW: &str = "SELECT pg_backend_pid()";

pub(super) const TRY_LOCK: &str = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))";
pub(super) const LOCK: &str = "SELECT pg_advisory_lock(hashtextextended($1, 0))";
pub(super) const UNLOCK: &str = "SELECT pg_advisory_unlock(hashtextextended($1, 0))";

pub(super) const LAST: &str = "SELECT fence, state, lease_ms, keeper, record FROM tenure.locks WHERE name = $1";

/// The grant: the fence and the record in one commit, so that no crash of the server gives a fence twice.
pub(super) const GRANT: &str = "\
INSERT INTO tenure.locks AS l (name, fence, state, backend, lease_ms, keeper, record)
VALUES ($1, nextval('tenure.fence'), 'held', pg_backend_pid(), $2, $3, $3)
ON CONFLICT (name) DO UPDATE SET fence = EXCLUDED.fence, state = EXCLUDED.state, backend = EXCLUDED.backend,
  lease_ms = EXCLUDED.lease_ms, keeper = EXCLUDED.keeper, record = EXCLUDED.record, changed_at = now()
RETURNING l.fence";

pub(super) const SHOW: &str =
    "UPDATE tenure.locks SET state = $3, record = $4, changed_at = now() WHERE name = $1 AND fence = $2";

/// Whoever has or awaits the advisory lock of a name. Its 64 bits are two columns there.
pub(super) const QUEUE: &str = "\
SELECT l.pid, l.granted, l.mode, a.application_name
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND ((l.classid::bigint << 32) | l.objid::bigint) = hashtextextended($1, 0)
ORDER BY l.granted DESC, l.waitstart";

pub(super) const RECORD: &str = "SELECT fence, state, backend, record FROM tenure.locks WHERE name = $1";

/// Names that begin with $1 and are held, or were when their holder died.
pub(super) const BELOW: &str = "\
SELECT name FROM tenure.locks WHERE left(name, length($1)) = $1 AND state <> 'released' ORDER BY name";

pub(super) const MARK_BROKEN: &str =
    "UPDATE tenure.locks SET state = 'released', changed_at = now() WHERE name = $1 AND state <> 'released'";
pub(super) const END_BACKEND: &str = "SELECT pg_terminate_backend($1)";
