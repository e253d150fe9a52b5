//! The traits by which a [`Lock`](crate::Lock) uses a lock. They are beside [`Tenure`](super::tenure::Tenure), because a tenure
//! that is suspended becomes one of them.

pub(crate) use super::tenure::{Backend, Begun, Pending};
