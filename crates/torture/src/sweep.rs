//! Runs `torture sweep`: every scene of `tenure_tests::sweep`, with kills before and after every call, and every errno.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tenure_tests::sweep::errnos::{self, Share};
use tenure_tests::sweep::kills::{self, Moment};
use tenure_tests::sweep::scenes::{SCENES, Scene};
use tenure_tests::sweep::{Depth, Report};

/// Runs the scenes whose name contains `text`, on as many threads as there are processors. A fault is a panic that
/// names the case.
pub fn run(dir: &Path, text: &str) -> i32 {
    let scenes: Vec<&Scene> = SCENES.iter().filter(|scene| scene.to_string().contains(text)).collect();
    let base = tempfile::Builder::new().prefix("sweep-").tempdir_in(dir).unwrap();
    let next = AtomicUsize::new(0);
    let sums = Mutex::new([Report::default(); 2]);
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(scene) = scenes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let played = std::panic::catch_unwind(|| {
                        let moments = [Moment::Before, Moment::After];
                        let killed = kills::sweep(base.path(), scene, Depth::Every, &moments);
                        (killed, errnos::sweep(base.path(), scene, Depth::Every, Share::ALL))
                    });
                    let Ok((killed, failing)) = played else {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!("{scene}: FAILED");
                        continue;
                    };
                    println!("{scene}: {} kills, {} faults", killed.cases, failing.cases);
                    let mut sums = sums.lock().unwrap();
                    sums[0].add(killed);
                    sums[1].add(failing);
                }
            });
        }
    });
    let [killed, failing] = sums.into_inner().unwrap();
    let failed = failed.into_inner();
    println!(
        "{}",
        json!({
            "scenes": scenes.len(),
            "kills": killed.cases,
            "faults": failing.cases,
            "longestToTheNextGrantMs": killed.worst.max(failing.worst).as_millis() as u64,
            "failedScenes": failed,
        })
    );
    i32::from(failed > 0)
}
