//! The status of one lock, in view of a reading of the kernel's lock table.

mod current;
mod examine;
mod view;

pub(crate) use current::{busy, current_holder, current_record};
pub(crate) use examine::{examine, examine_after, examine_once};
pub(crate) use view::{Doubt, Seen, View, anchor_holders, anchor_keepers, has_settled, idle_for, kernel_numbers};
