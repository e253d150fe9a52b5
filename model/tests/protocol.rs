//! The protocol holds in small configurations, and needs every guard: without it the checker finds a violation.
//! `cargo run --release -p tenure-model -- --all` explores the big ones.

use std::collections::HashSet;

use clap::ValueEnum;
use tenure_model::config::{Clock, Config, Guard, System, Way};
use tenure_model::explore::{Outcome, counterexample, explore};
use tenure_model::properties::*;

fn advances(config: Config) -> Config {
    Config { clock: Clock::Advances, ..config }
}

fn breaks(config: Config) -> Config {
    Config { breaks: 1, ..config }
}

fn wipes(config: Config) -> Config {
    Config { wipes: 1, ..config }
}

fn copies(config: Config) -> Config {
    Config { way: Way::Copy, ..config }
}

fn in_place(config: Config) -> Config {
    Config { way: Way::CopyInPlace, ..config }
}

/// Each native belongs to another user.
fn users(config: Config) -> Config {
    Config { users: true, ..config }
}

fn on(system: System, config: Config) -> Config {
    Config { system, ..config }
}

fn twice(config: Config) -> Config {
    Config { rounds: 2, ..config }
}

/// A native died with a live foreign program's file at the swap. Natives of both styles and another foreign program follow.
fn beside_flock(crashes: u8) -> Config {
    Config { flock: 1, cut_off: true, ..sketch(2, 2, crashes, 0, 0) }
}

fn sketch(natives: usize, foreign: usize, crashes: u8, pruners: u8, user_rm: u8) -> Config {
    Config::sketch(natives, foreign, crashes, pruners, user_rm)
}

/// Checks that there is no fault, and returns the violations that no native can prevent.
fn holds(config: &Config) -> Outcome {
    let outcome = explore(config);
    if let Some((property, steps)) = outcome.faults.first_key_value() {
        panic!("`{config}`: violated: {property}\n    {}", steps.join("\n    "));
    }
    outcome
}

/// The verdicts of an independent, much smaller model of the bare protocol, for these numbers of natives, foreign programs,
/// crashes, pruned anchors, and lock files removed by a person.
#[test]
fn an_independent_model_gives_the_same_verdicts() {
    let (race, person) = (FOREIGN_RACE, PERSON_REMOVED);
    let rows: [([u8; 5], &[&str]); 10] = [
        ([1, 1, 1, 0, 0], &[]),
        ([2, 0, 1, 1, 0], &[]),
        ([2, 0, 2, 0, 1], &[]),
        ([2, 0, 2, 1, 1], &[]),
        ([2, 1, 0, 0, 0], &[]),
        ([2, 1, 1, 0, 0], &[race]),
        ([1, 2, 1, 0, 0], &[race]),
        ([2, 1, 1, 0, 1], &[race, person]),
        ([2, 2, 2, 0, 1], &[race, person]),
        ([2, 1, 2, 1, 1], &[race, person]),
    ];
    for ([natives, foreign, crashes, pruners, user_rm], found) in rows {
        let config = sketch(natives.into(), foreign.into(), crashes, pruners, user_rm);
        assert_eq!(holds(&config).excused, found, "`{config}`");
    }
    // Both models find a native beside a foreign holder without a removed lock file, if recovery does not put a live holder's
    // file back.
    let mut config = sketch(2, 3, 2, 0, 0);
    assert_eq!(holds(&config).excused, [FOREIGN_RACE]);
    config.without = vec![Guard::RecoverKeepsLiveFiles, Guard::TakeoverIsMarked];
    assert!(counterexample(&config, FOREIGN_EXCLUDED).is_some());
}

#[test]
fn natives_exclude_each_other() {
    let forced = [NATIVES_FORCED].as_slice();
    for (config, excused) in [
        (twice(sketch(2, 0, 2, 1, 1)), [].as_slice()),
        (Config { revokes: 1, ..twice(sketch(2, 0, 1, 0, 1)) }, &[]),
        (Config { pass: true, ..twice(sketch(2, 0, 1, 1, 0)) }, &[]),
        (Config { cleaners: 1, ..sketch(2, 0, 2, 1, 0) }, &[]),
        (sketch(3, 0, 2, 1, 0), &[]),
        (users(twice(sketch(2, 0, 2, 0, 1))), &[]),
        (users(twice(copies(sketch(2, 0, 1, 0, 0)))), &[]),
        (users(Config { cleaners: 1, ..sketch(2, 0, 1, 1, 0) }), &[]),
        (users(advances(wipes(sketch(2, 0, 1, 0, 0)))), &[]),
        (twice(copies(sketch(2, 0, 1, 1, 0))), &[]),
        (twice(in_place(sketch(2, 0, 2, 1, 0))), &[]),
        (Config { flock: 1, ..twice(sketch(1, 0, 1, 1, 0)) }, &[]),
        (wipes(sketch(2, 0, 1, 0, 0)), &[]),
        (advances(wipes(sketch(2, 0, 1, 1, 0))), &[]),
        (advances(wipes(copies(sketch(2, 0, 0, 0, 0)))), &[]),
        (advances(wipes(in_place(sketch(2, 0, 1, 0, 0)))), &[]),
        (advances(wipes(sketch(2, 0, 0, 0, 1))), forced),
        (breaks(sketch(2, 0, 1, 0, 0)), forced),
        (advances(breaks(sketch(2, 0, 0, 0, 1))), forced),
        (advances(breaks(copies(sketch(2, 0, 0, 0, 0)))), forced),
    ] {
        assert_eq!(holds(&config).excused, excused, "`{config}`");
    }
}

#[test]
fn natives_and_foreign_programs_exclude_each_other() {
    let (race, person, forced) = (FOREIGN_RACE, PERSON_REMOVED, NATIVES_FORCED);
    for (config, excused) in [
        (Config { cleaners: 1, ..sketch(1, 1, 1, 0, 0) }, [race].as_slice()),
        (Config { cleaners: 1, ..sketch(1, 2, 2, 0, 0) }, &[race]),
        (Config { cleaners: 1, flock: 1, ..sketch(1, 1, 2, 0, 0) }, &[race]),
        (copies(sketch(2, 1, 1, 0, 1)), &[race, person]),
        (in_place(sketch(2, 1, 1, 0, 0)), &[race]),
        (Config { flock: 1, ..in_place(sketch(2, 1, 1, 0, 0)) }, &[race]),
        (users(sketch(2, 1, 2, 0, 0)), &[race]),
        (advances(wipes(sketch(2, 1, 0, 0, 0))), &[race]),
        (advances(breaks(sketch(2, 1, 0, 0, 0))), &[race, person, forced]),
    ] {
        assert_eq!(holds(&config).excused, excused, "`{config}`");
    }
}

/// The protocol with the means of other systems. On Windows no program removes a live lock file, so one foreign program has no
/// race with natives.
#[test]
fn the_steps_of_other_systems_hold() {
    let (race, person, forced) = (FOREIGN_RACE, PERSON_REMOVED, NATIVES_FORCED);
    for (system, config, excused) in [
        (System::Windows, twice(sketch(2, 0, 2, 1, 1)), [].as_slice()),
        (System::Windows, sketch(2, 1, 2, 0, 0), &[]),
        // A foreign program does not keep its own.
        (System::Windows, sketch(2, 1, 1, 0, 1), &[person]),
        (System::Windows, Config { flock: 1, ..sketch(1, 1, 1, 0, 0) }, &[]),
        (System::Windows, breaks(sketch(2, 0, 0, 0, 0)), &[forced]),
        (System::FreeBsd, twice(sketch(2, 0, 2, 0, 1)), &[]),
        (System::FreeBsd, sketch(2, 1, 1, 0, 1), &[race, person]),
        (System::FreeBsd, Config { flock: 1, ..sketch(1, 1, 2, 0, 0) }, &[]),
        (System::FreeBsd, users(sketch(2, 1, 1, 0, 0)), &[race]),
        (System::FreeBsd, breaks(sketch(2, 0, 1, 0, 0)), &[forced]),
        (System::MacOs, sketch(2, 1, 1, 0, 1), &[race, person]),
        (System::MacOs, sketch(2, 2, 2, 0, 0), &[race]),
        (System::MacOs, breaks(sketch(2, 0, 1, 0, 0)), &[forced]),
    ] {
        let config = on(system, config);
        assert_eq!(holds(&config).excused, excused, "`{config}`");
    }
}

fn suspends(suspends: u8, config: Config) -> Config {
    Config { suspends, ..config }
}

/// A tenure that is resumed goes first, is true about the others, and is let in whatever dies when.
#[test]
fn a_suspended_tenure_is_resumed_first_and_knows_whether_others_held() {
    let (nobody, others, unknown) = (SAYS_NOBODY, SAYS_OTHERS, SAYS_UNKNOWN);
    let mut wrong = Vec::new();
    for (config, answers) in [
        (suspends(1, sketch(1, 0, 1, 0, 0)), [nobody].as_slice()),
        // `clean` may have looked whether the anchor is in use before the first acquire.
        (suspends(1, sketch(2, 0, 2, 1, 1)), &[nobody, others, unknown]),
        (suspends(2, twice(sketch(2, 0, 1, 0, 0))), &[nobody, others]),
        (suspends(1, sketch(3, 0, 1, 0, 0)), &[nobody, others]),
        (Config { overtakes: 1, ..suspends(2, sketch(2, 0, 1, 0, 0)) }, &[nobody, others]),
        (suspends(1, sketch(1, 1, 1, 0, 0)), &[nobody, others]),
        (suspends(1, copies(sketch(2, 0, 1, 0, 0))), &[nobody, others]),
        (Config { flock: 2, ..suspends(1, sketch(0, 0, 1, 0, 0)) }, &[others, unknown]),
        (Config { flock: 1, ..suspends(1, sketch(1, 0, 1, 0, 0)) }, &[nobody, others, unknown]),
        (users(suspends(1, sketch(2, 0, 1, 0, 0))), &[nobody, others]),
        (advances(wipes(suspends(1, sketch(2, 0, 0, 0, 0)))), &[nobody, others, unknown]),
        (advances(breaks(suspends(1, sketch(2, 0, 0, 0, 0)))), &[nobody, others]),
    ] {
        let found = holds(&config).answers;
        if found != answers {
            wrong.push(format!("`{config}`: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_guard_is_needed() {
    use Guard::*;
    // The guards to leave out, the configuration, and the violated property.
    let rows: Vec<(Vec<Guard>, Config, &str)> = vec![
        // Step 2: the lock file is linked to another native's anchor.
        (vec![CompareAfterLock], sketch(3, 0, 0, 1, 0), NO_PHANTOM),
        // Both checks of the anchor: a double grant.
        (vec![CompareAfterLock, CompareAfterPublishing], sketch(3, 0, 0, 1, 0), NATIVES_EXCLUDE),
        (vec![CompareAfterPublishing], advances(wipes(sketch(2, 0, 0, 0, 0))), NATIVES_EXCLUDE),
        (vec![CompareAfterPublishing], advances(breaks(sketch(2, 0, 0, 0, 0))), FENCE_GROWS),
        (vec![CompareAgain, CompareBeforeTakeover], wipes(sketch(2, 0, 1, 0, 0)), NO_NATIVE_STUCK),
        // Step 3.
        (vec![Recover], sketch(2, 1, 2, 0, 0), SWAP_RECOVERED),
        (vec![Recover], sketch(2, 2, 2, 0, 0), FOREIGN_EXCLUDED),
        (vec![RecoverJudges], sketch(2, 2, 2, 0, 0), FOREIGN_EXCLUDED),
        (vec![RecoverKeepsLiveFiles], sketch(2, 3, 2, 0, 0), FOREIGN_EXCLUDED),
        (vec![TakeoverIsMarked], sketch(2, 1, 2, 0, 1), SWAP_RECOVERED),
        // Flock style beside a live foreign program's file at the swap.
        (vec![FlockKeepsTheMark], beside_flock(1), FOREIGN_EXCLUDED),
        (vec![FlockDeathIsChecked], beside_flock(1), FOREIGN_EXCLUDED),
        (vec![FlockTakesOver], Config { flock: 1, ..copies(sketch(2, 1, 1, 0, 0)) }, FOREIGN_EXCLUDED),
        // Another user's anchor.
        (vec![ReplaceCompares], users(breaks(sketch(2, 0, 0, 0, 0))), FENCE_GROWS),
        (vec![ReplaceCarriesTheFence], users(sketch(3, 0, 2, 0, 0)), FENCE_GROWS),
        (vec![ReplaceKeepsTheMark], users(Config { cut_off: true, ..sketch(3, 2, 1, 0, 0) }), FOREIGN_EXCLUDED),
        // Step 6.
        (vec![WaitsForLiveForeign], sketch(2, 1, 0, 0, 0), FOREIGN_EXCLUDED),
        (vec![CompareAfterExchange], sketch(2, 2, 1, 0, 0), FOREIGN_EXCLUDED),
        (vec![CompareAfterExchange], copies(sketch(2, 1, 1, 0, 0)), FOREIGN_EXCLUDED),
        (vec![RetriesAfterChange], wipes(copies(sketch(2, 0, 1, 0, 0))), NO_ERRORS),
        (vec![AdoptsAnyDeadNative], in_place(sketch(3, 0, 2, 0, 0)), NO_ERRORS),
        (vec![VerifyAdoption, CompareAfterPublishing], in_place(sketch(2, 1, 1, 0, 0)), FOREIGN_EXCLUDED),
        (vec![NewIsLockedAndCompared], copies(sketch(2, 0, 0, 1, 0)), NO_PHANTOM),
        // A dead foreign program's lock file becomes the anchor.
        (vec![ReclaimLinksTheJudged], Config { cleaners: 1, ..sketch(1, 2, 1, 0, 0) }, FOREIGN_EXCLUDED),
        (vec![ReclaimNamesUs], Config { cleaners: 1, ..sketch(1, 2, 1, 0, 0) }, FOREIGN_EXCLUDED),
        // Without an exchange, and where a name can be kept.
        (vec![RemovesTheJudged], on(System::FreeBsd, sketch(1, 2, 1, 0, 0)), FOREIGN_EXCLUDED),
        (vec![RemovesTheJudged], on(System::Windows, sketch(2, 1, 1, 0, 0)), FOREIGN_EXCLUDED),
        (vec![KeepsTheName], on(System::Windows, sketch(2, 1, 0, 0, 1)), NAME_IS_KEPT),
        (vec![GivesUpTheName], on(System::Windows, breaks(sketch(2, 0, 0, 0, 0))), NO_NATIVE_STUCK),
        (vec![PromotesTheNew], on(System::Windows, breaks(sketch(2, 0, 0, 0, 0))), FENCE_GROWS),
        // The release.
        (vec![CompareAtRelease], sketch(2, 1, 0, 0, 1), FOREIGN_EXCLUDED),
        (vec![UnpublishBeforeUnlock], sketch(2, 0, 0, 0, 0), NO_PHANTOM),
        (vec![EndsBeforeRelease], sketch(2, 0, 0, 0, 0), NATIVES_EXCLUDE),
        (vec![PassWritesFirst], Config { pass: true, ..twice(advances(breaks(sketch(2, 0, 0, 0, 0)))) }, FENCE_GROWS),
        // Waiting, breaking, pruning.
        (vec![Recheck], breaks(sketch(2, 0, 0, 0, 0)), NO_NATIVE_STUCK),
        (vec![WaitersFreeTheAnchor], sketch(2, 1, 0, 0, 0), WAITERS_FREE),
        (vec![BreakRemovesTheCopy], breaks(copies(sketch(2, 0, 0, 0, 0))), NO_NATIVE_STUCK),
        (vec![BreakCarriesTheFence], breaks(sketch(2, 0, 0, 0, 0)), FENCE_GROWS),
        (vec![BreakReadsTheFenceAgain], breaks(sketch(2, 0, 0, 0, 0)), FENCE_GROWS),
        (vec![BreakReopens], users(breaks(sketch(2, 0, 0, 0, 0))), FENCE_GROWS),
        (vec![PruneLocks], sketch(2, 0, 0, 1, 0), CHECK_IS_RIGHT),
        // Suspending and resuming.
        (vec![GivesWay], suspends(1, sketch(2, 0, 0, 0, 0)), RESUMED_FIRST),
        (vec![AsksTheKernel], suspends(1, sketch(2, 0, 1, 0, 0)), NO_NATIVE_STUCK),
        (vec![SuspendedFirstGoesFirst], suspends(2, sketch(2, 0, 0, 0, 0)), NO_NATIVE_STUCK),
        (vec![CarriesTheList], suspends(1, sketch(3, 0, 0, 0, 0)), RESUMED_FIRST),
        (vec![ReleaseKeepsTheList], Config { flock: 2, ..suspends(1, sketch(0, 0, 0, 0, 0)) }, RESUMED_FIRST),
        (vec![MarksBeforeTheRelease], suspends(1, sketch(3, 0, 0, 0, 0)), RESUMED_FIRST),
        (vec![ComparesTheFence], Config { flock: 1, ..suspends(1, sketch(1, 0, 0, 0, 0)) }, NOBODY_IS_TRUE),
        (vec![ComparesTheName], suspends(1, sketch(1, 1, 0, 0, 0)), NOBODY_IS_TRUE),
    ];
    for guard in Guard::value_variants() {
        assert!(rows.iter().any(|(without, ..)| without.contains(guard)), "{guard:?} is never left out");
    }
    // Explored by another test, and with `--all`.
    let cut_off_users = users(Config { cut_off: true, ..sketch(3, 2, 1, 0, 0) });
    let mut held = HashSet::from([sketch(2, 3, 2, 0, 0), cut_off_users].map(|config| config.to_string()));
    for (without, config, property) in rows {
        let config = Config { without, ..config };
        let steps = counterexample(&config, property);
        assert!(steps.is_some_and(|steps| steps.len() > 5), "`{config}`: {property} still holds");
        // With all guards the same configuration has no fault.
        let whole = Config { without: Vec::new(), ..config };
        if held.insert(whole.to_string()) {
            holds(&whole);
        }
    }
}
