//! Events for `tracing`, where the feature is on.

/// An event of the lock, at the level given: `event!(INFO, target = .., "granted")`.
macro_rules! event {
    ($level:ident, $($what:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::event!(target: "tenure", tracing::Level::$level, $($what)*);
    };
}

pub(crate) use event;
