//! The option `--timeout`.

use std::time::Duration;

use super::duration;

#[derive(clap::Args)]
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(crate) struct TimeoutOption {
    /// Give up after this time (10 or 10s, 300ms, 5m, 1h30m; 0: at once). Default: wait without a limit
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    #[arg(env = TimeoutOption::VARIABLE, hide_env_values = true, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,
}

impl TimeoutOption {
    /// The environment variable that sets the timeout where the option is absent.
    pub(crate) const VARIABLE: &str = "TENURE_TIMEOUT";
}
