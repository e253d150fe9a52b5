//! The option `--timeout`.

use std::time::Duration;

use super::duration;

#[derive(clap::Args)]
pub(crate) struct TimeoutOption {
    /// Give up after this time (10 or 10s, 300ms, 5m, 1h30m; 0: at once). Default: wait without a limit
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    #[arg(env = "TENURE_TIMEOUT", hide_env_values = true, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,
}
