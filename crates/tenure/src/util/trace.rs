//! Events for `tracing`, if the feature is enabled.

/// Emits an event of a lock at a level: `event!(INFO, target = .., "granted")`.
macro_rules! event {
    ($level:ident, $($what:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::event!(target: "tenure", tracing::Level::$level, $($what)*);
    };
}

pub(crate) use event;
