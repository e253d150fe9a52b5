//! The order in which several locks are acquired. All programs follow the same one, so that they never wait for each other in
//! a circle.

use std::ffi::OsString;

use crate::model::status::Scheme;

/// The place of a lock in that order.
///
/// Locks on servers come first, because the answer of a server may take long, and a file would be held meanwhile. They are
/// ordered by their names: one lock may be named by several targets, which differ in the servers or in `ttl=`. On etcd an
/// outer name (`a`) comes before an inner one (`a/b`), whose holder it waits for. One name on several clusters is ordered by
/// what each cluster says of itself, because targets may name its servers in many ways.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(dead_code, reason = "the simulation acquires one lock at a time")]
pub(crate) enum Rank {
    Server {
        scheme: &'static str,
        name: String,
        database: String,
        /// The cluster's own number for itself, as text; empty as long as no other lock has the same name.
        cluster: String,
        /// Sorted: the order in a target is that in which they are tried.
        servers: Vec<String>,
    },
    File {
        device: u64,
        inode: u64,
        name: OsString,
    },
}

#[allow(dead_code, reason = "the simulation acquires one lock at a time")]
impl Rank {
    pub(crate) fn of_server(scheme: Scheme, name: &str, database: &str, mut servers: Vec<String>) -> Rank {
        servers.sort();
        servers.dedup();
        let (scheme, name, database) = (scheme.as_str(), name.to_owned(), database.to_owned());
        Rank::Server { scheme, name, database, cluster: String::new(), servers }
    }

    /// Returns whether both are the same lock. Targets may name different members of one cluster; those that have none in
    /// common are taken for different clusters.
    pub(crate) fn is_same_lock(&self, other: &Rank) -> bool {
        match (self, other) {
            (
                Rank::Server { scheme, name, database, servers, .. },
                Rank::Server { scheme: scheme_2, name: name_2, database: database_2, servers: servers_2, .. },
            ) => {
                (scheme, name, database) == (scheme_2, name_2, database_2)
                    && servers.iter().any(|server| servers_2.contains(server))
            }
            _ => self == other,
        }
    }

    /// Returns whether the two have one name, on servers that have none in common.
    fn differs_by_cluster(&self, other: &Rank) -> bool {
        match (self, other) {
            (
                Rank::Server { scheme, name, database, .. },
                Rank::Server { scheme: scheme_2, name: name_2, database: database_2, .. },
            ) => (scheme, name, database) == (scheme_2, name_2, database_2) && !self.is_same_lock(other),
            _ => false,
        }
    }

    /// Sets what the cluster of a lock says of itself.
    pub(crate) fn set_cluster(&mut self, id: String) {
        if let Rank::Server { cluster, .. } = self {
            *cluster = id;
        }
    }
}

/// Returns the indexes of the locks whose order depends on their clusters.
#[allow(dead_code, reason = "the simulation acquires one lock at a time")]
pub(crate) fn needing_cluster(ranks: &[Rank]) -> Vec<usize> {
    (0..ranks.len()).filter(|at| ranks.iter().any(|other| ranks[*at].differs_by_cluster(other))).collect()
}

/// Returns the indexes of locks in the order in which they are acquired, and for each whether it is the same lock as one with a
/// smaller index.
#[allow(dead_code, reason = "the simulation acquires one lock at a time")]
pub(crate) fn in_order(ranks: &[Rank]) -> Vec<(usize, bool)> {
    let mut order: Vec<usize> = (0..ranks.len()).collect();
    order.sort_by(|one, other| ranks[*one].cmp(&ranks[*other]));
    let repeats = |at: usize| ranks[..at].iter().any(|before| before.is_same_lock(&ranks[at]));
    order.into_iter().map(|at| (at, repeats(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, servers: &[&str]) -> Rank {
        Rank::of_server(Scheme::Etcd, name, "", servers.iter().map(|name| (*name).to_owned()).collect())
    }

    fn file(inode: u64, name: &str) -> Rank {
        Rank::File { device: 1, inode, name: name.into() }
    }

    #[test]
    fn the_order_is_that_of_the_names_whatever_the_targets_look_like() {
        let ranks = [file(2, "a"), file(1, "z"), server("b", &["1"]), server("a/b", &["3", "1"]), server("a", &["9"])];
        assert_eq!(in_order(&ranks).iter().map(|(at, _)| *at).collect::<Vec<_>>(), [4, 3, 2, 1, 0]);
    }

    #[test]
    fn one_name_on_several_clusters_is_ordered_by_what_they_say_of_themselves() {
        let mut ranks =
            [server("a", &["1"]), server("b", &["1"]), server("a", &["2"]), file(1, "a"), server("a", &["1", "3"])];
        let asked = needing_cluster(&ranks);
        assert_eq!(asked, [0, 2, 4]);
        for (at, id) in [(0, "f"), (2, "e"), (4, "f")] {
            ranks[at].set_cluster(id.to_owned());
        }
        assert_eq!(in_order(&ranks), [(2, false), (0, false), (4, true), (1, false), (3, false)]);
        assert!(
            needing_cluster(&[server("a", &["1"]), server("a", &["1", "2"]), file(1, "a"), file(2, "a")]).is_empty()
        );
        // The default number of etcd is that of many clusters.
        let mut alike = [server("a", &["2"]), server("a", &["1"])];
        alike.iter_mut().for_each(|rank| rank.set_cluster("f".to_owned()));
        assert_eq!(in_order(&alike), [(1, false), (0, false)]);
    }

    #[test]
    fn targets_with_a_server_in_common_are_one_lock() {
        let ranks =
            [server("a", &["3", "2"]), file(1, "a"), server("a", &["1", "3"]), server("a", &["4"]), file(1, "a")];
        let repeats: Vec<usize> = in_order(&ranks).iter().filter(|(_, is)| *is).map(|(at, _)| *at).collect();
        // Of one lock the one that was named first stays, wherever it is in the order.
        assert_eq!(repeats, [2, 4]);
    }
}
