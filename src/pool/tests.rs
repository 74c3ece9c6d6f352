use super::*;

const GRACE: Duration = Duration::from_secs(1);

#[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes in these tests")]
fn origin() -> Instant {
    Instant::now()
}

fn pool(workers: usize, spares: usize, now: Instant) -> Pool {
    Pool::new(workers, spares, Recycling::default(), now, 1)
}

/// Starts what is missing.
fn fill(pool: &mut Pool, now: Instant) {
    while let Some(slot) = pool.poll_start(now) {
        assert!(pool.handle_forked(slot, now));
        assert!(pool.handle_ready(slot));
    }
}

fn started(workers: usize, spares: usize, now: Instant) -> Pool {
    let mut pool = pool(workers, spares, now);
    fill(&mut pool, now);
    pool
}

#[test]
fn the_most_recently_idle_worker_is_leased_first() {
    let now = origin();
    let mut pool = started(3, 0, now);
    let first = pool.lease(RequestId(1)).expect("a worker is idle");
    let second = pool.lease(RequestId(2)).expect("a worker is idle");
    assert_eq!(pool.release(first, now, GRACE), Released::Free);
    assert_eq!(pool.release(second, now, GRACE), Released::Free);
    assert_eq!(pool.lease(RequestId(3)), Some(second));
}

#[test]
fn spares_do_not_raise_the_number_of_requests_at_a_time() {
    let mut pool = started(2, 1, origin());
    assert!(pool.lease(RequestId(1)).is_some());
    assert!(pool.has_room());
    assert!(pool.lease(RequestId(2)).is_some());
    assert!(!pool.has_room());
    assert_eq!(pool.lease(RequestId(3)), None);
}

#[test]
fn a_spare_takes_the_place_of_a_dead_worker_at_once() {
    let now = origin();
    let mut pool = started(1, 1, now);
    let slot = pool.lease(RequestId(1)).expect("a worker is idle");
    let vacated = pool.handle_exit(slot, now);
    assert_eq!(vacated.request, Some(RequestId(1)));
    let spare = pool.lease(RequestId(2)).expect("the spare is idle");
    assert_ne!(spare, slot);
    assert_eq!(pool.poll_start(now), Some(slot), "who had served is replaced without a wait");
}

#[test]
fn a_worker_that_dies_before_it_is_ready_is_replaced_with_growing_waits() {
    let mut now = origin();
    let mut pool = pool(1, 0, now);
    let mut last = Duration::ZERO;
    for _ in 1..8 {
        let slot = pool.poll_start(now).expect("the wait is over");
        assert!(pool.handle_forked(slot, now));
        let vacated = pool.handle_exit(slot, now);
        assert!(vacated.never_ready && vacated.delay > last, "{:?}", vacated.delay);
        last = vacated.delay;
        assert_eq!(pool.poll_start(now), None);
        assert_eq!(pool.next_deadline(), Some(now + vacated.delay));
        now += vacated.delay;
    }
    fill(&mut pool, now);
    let slot = pool.lease(RequestId(1)).expect("a worker is idle");
    assert_eq!(pool.handle_exit(slot, now).delay, Duration::ZERO, "one that was ready ends the series");
}

#[test]
fn idle_workers_that_are_killed_are_replaced_at_once_up_to_a_limit() {
    let now = origin();
    let mut pool = started(1, 0, now);
    for _ in 0..backoff::UNSERVED_MAX {
        assert_eq!(pool.handle_exit(SlotId(0), now).delay, Duration::ZERO);
        fill(&mut pool, now);
    }
    assert!(pool.handle_exit(SlotId(0), now).delay >= backoff::BACKOFF_FIRST);
    assert_eq!(pool.poll_start(now), None);
}

#[test]
fn a_worker_that_does_not_become_ready_is_given_up() {
    let now = origin();
    let mut pool = pool(1, 0, now);
    let slot = pool.poll_start(now).expect("a slot is vacant");
    assert!(!pool.is_fork_overdue(now + FORK_TIMEOUT - Duration::from_millis(1)));
    assert!(pool.is_fork_overdue(now + FORK_TIMEOUT));
    assert!(pool.handle_forked(slot, now));
    assert!(!pool.handle_forked(slot, now));
    assert_eq!(pool.poll_overdue(now + START_TIMEOUT - Duration::from_millis(1)), None);
    assert_eq!(pool.poll_overdue(now + START_TIMEOUT), Some(slot));
    assert!(pool.handle_ready(slot), "ready may cross the decision");
    assert!(!pool.has_room(), "and comes too late");
}

#[test]
fn messages_that_do_not_fit_the_state_are_told_apart() {
    let now = origin();
    let mut pool = started(1, 0, now);
    let slot = SlotId(0);
    assert!(!pool.handle_ready(slot) && !pool.handle_forked(slot, now));
    assert_eq!(pool.release(slot, now, GRACE), Released::HadNone);
    assert_eq!(pool.release(SlotId(9), now, GRACE), Released::HadNone);
}

#[test]
fn a_worker_goes_on_with_what_it_was_offered_unless_that_was_withdrawn() {
    let now = origin();
    let mut pool = started(2, 0, now);
    let first = pool.lease(RequestId(1)).expect("a worker is idle");
    let second = pool.lease(RequestId(2)).expect("a worker is idle");
    assert_eq!(pool.poll_offerable(), Some(first), "the longest leased is likely to be done first");
    pool.handle_offered(first, RequestId(3));
    assert_eq!(pool.poll_offerable(), Some(second));
    assert_eq!(pool.poll_offerable(), None, "one offer at a time");
    pool.handle_offered(second, RequestId(4));
    pool.handle_withdrawn(second);
    assert_eq!(pool.poll_offerable(), None, "who was made an offer in vain is left alone");
    assert_eq!(pool.release(first, now, GRACE), Released::Next(RequestId(3)));
    assert_eq!(pool.request(first), Some(RequestId(3)));
    assert_eq!(pool.release(second, now, GRACE), Released::Free);
    assert!(!pool.has_room(), "it still holds what was withdrawn");
    assert!(!pool.handle_discarded(second, RequestId(3)));
    assert!(pool.handle_discarded(second, RequestId(4)));
    assert!(pool.has_room());
    assert_eq!(pool.poll_offerable(), Some(first));
    pool.handle_offered(first, RequestId(5));
    let vacated = pool.handle_exit(first, now);
    assert_eq!((vacated.request, vacated.offered), (Some(RequestId(3)), Some(RequestId(5))));
}

#[test]
fn a_request_that_is_taken_back_leaves_its_place_to_another() {
    let now = origin();
    let mut pool = started(1, 1, now);
    let stuck = pool.lease(RequestId(1)).expect("a worker is idle");
    assert!(!pool.has_room());
    pool.handle_taken_back(stuck);
    assert!(pool.is_discarding(stuck) && pool.has_room());
    let other = pool.lease(RequestId(1)).expect("the spare is idle");
    assert_ne!(other, stuck);
    assert_eq!(pool.release(other, now, GRACE), Released::Free);
    assert!(pool.handle_discarded(stuck, RequestId(1)));
    assert_eq!(pool.handle_exit(stuck, now).request, None);
}

#[test]
fn the_last_request_of_a_worker_has_its_replacement_started() {
    let now = origin();
    let recycling = Recycling { requests_max: 2, age_max: None };
    let mut pool = Pool::new(1, 0, recycling, now, 1);
    fill(&mut pool, now);
    let slot = pool.lease(RequestId(1)).expect("a worker is idle");
    assert_eq!(pool.poll_start(now), None);
    assert_eq!(pool.release(slot, now, GRACE), Released::Free);
    assert_eq!(pool.lease(RequestId(2)), Some(slot));
    let next = pool.poll_start(now).expect("the replacement is due");
    assert_ne!(next, slot);
    assert_eq!(pool.poll_offerable(), None, "nothing is offered to a worker at its last request");
    assert_eq!(pool.release(slot, now, GRACE), Released::Retire(Retirement::Requests));
    assert!(!pool.has_room());
    assert!(pool.handle_forked(next, now) && pool.handle_ready(next));
    assert_eq!(pool.lease(RequestId(3)), Some(next));
    assert_eq!(pool.poll_overdue(now + GRACE), Some(slot), "and is not waited for without end");
    let vacated = pool.handle_exit(slot, now);
    assert_eq!((vacated.retirement, vacated.delay), (Some(Retirement::Requests), Duration::ZERO));
}

#[test]
fn with_one_request_each_every_request_has_a_worker_of_its_own() {
    let now = origin();
    let mut pool = Pool::new(2, 1, Recycling { requests_max: 1, age_max: None }, now, 1);
    for request in 1..200 {
        fill(&mut pool, now);
        let slot = pool.lease(RequestId(request)).expect("a worker is idle");
        assert_eq!(pool.release(slot, now, GRACE), Released::Retire(Retirement::Requests));
        if request % 3 == 0 {
            for slot in pool.slots() {
                if pool.occupant(slot).is_some_and(|occupant| occupant.state == "retiring") {
                    pool.handle_exit(slot, now);
                }
            }
        }
    }
}

#[test]
fn an_aged_worker_serves_until_its_replacement_is_ready() {
    let now = origin();
    let age = Duration::from_secs(100);
    let mut pool = Pool::new(1, 0, Recycling { requests_max: 0, age_max: Some(age) }, now, 1);
    fill(&mut pool, now);
    pool.retire_aged(now + age - age / 10 - Duration::from_millis(1));
    assert_eq!(pool.poll_start(now), None);
    let later = now + age;
    pool.retire_aged(later);
    let next = pool.poll_start(later).expect("the replacement is due");
    assert_eq!(pool.poll_retire(later, GRACE), None);
    let old = pool.lease(RequestId(1)).expect("it still serves");
    assert_eq!(pool.release(old, later, GRACE), Released::Free);
    assert!(pool.handle_forked(next, later) && pool.handle_ready(next));
    assert_eq!(pool.poll_retire(later, GRACE), Some((old, Retirement::Age)));
    assert_eq!(pool.poll_retire(later, GRACE), None);
}

#[test]
fn workers_are_added_and_taken_away() {
    let now = origin();
    let mut pool = started(1, 1, now);
    pool.set_workers(3);
    fill(&mut pool, now);
    assert_eq!(pool.ready(), 4);
    let busy = pool.lease(RequestId(1)).expect("a worker is idle");
    pool.set_workers(1);
    let mut gone = 0;
    while let Some((slot, why)) = pool.poll_retire(now, GRACE) {
        assert_eq!(why, Retirement::ScaledDown);
        assert_ne!(slot, busy);
        gone += 1;
    }
    assert_eq!((gone, pool.ready(), pool.poll_start(now)), (2, 2, None));
}

#[test]
fn after_the_stop_nothing_is_started() {
    let now = origin();
    let mut pool = started(2, 0, now);
    pool.stop_replacing();
    for slot in pool.slots() {
        pool.handle_ending(slot);
        pool.handle_exit(slot, now);
    }
    assert_eq!((pool.alive(), pool.poll_start(now), pool.next_deadline()), (0, None, None));
}

#[test]
fn a_machine_that_stood_still_makes_nobody_late() {
    let now = origin();
    let mut pool = pool(1, 0, now);
    let slot = pool.poll_start(now).expect("a slot is vacant");
    assert!(pool.handle_forked(slot, now));
    let leap = Duration::from_secs(3600);
    pool.forgive(leap);
    assert_eq!(pool.poll_overdue(now + leap + START_TIMEOUT - Duration::from_millis(1)), None);
    assert_eq!(pool.poll_overdue(now + leap + START_TIMEOUT), Some(slot));
}

#[test]
fn who_may_be_offered_a_request_is_listed_once_however_many_requests_have_passed() {
    let now = origin();
    let mut pool = started(2, 1, now);
    for id in (1..=1000).step_by(2) {
        let first = pool.lease(RequestId(id)).expect("a worker is idle");
        let second = pool.lease(RequestId(id + 1)).expect("a worker is idle");
        assert_eq!(pool.offerable_max(), 2);
        pool.release(second, now, GRACE);
        assert_eq!(pool.poll_offerable(), Some(first));
        pool.handle_unoffered(first);
        pool.release(first, now, GRACE);
        assert_eq!(pool.offerable_max(), 0);
    }
    let slot = pool.lease(RequestId(1001)).expect("a worker is idle");
    pool.handle_taken_back(slot);
    assert_eq!(pool.offerable_max(), 0, "it has nothing beside which it could be offered another");
    let slot = pool.lease(RequestId(1002)).expect("a worker is idle");
    pool.handle_exit(slot, now);
    assert_eq!(pool.offerable_max(), 0);
}
