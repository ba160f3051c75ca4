//! Quota, expiry and atomicity of the store.

use proptest::prelude::*;

use super::*;

const QUOTA: usize = 10_000;
const TTL: Option<Duration> = Some(Duration::from_secs(10));

fn bytes_in(store: &Store) -> usize {
    store.entries.lock().unwrap().bytes
}

#[test]
fn what_is_set_is_found_until_it_is_deleted() {
    let store = Store::default();
    assert_eq!(store.get("k"), None);
    store.set("k", vec![0, 255], None, QUOTA).unwrap();
    store.set("", Vec::new(), None, QUOTA).unwrap();
    assert_eq!(store.get("k"), Some(vec![0, 255]));
    assert_eq!(store.get(""), Some(Vec::new()));
    store.set("k", b"new".to_vec(), None, QUOTA).unwrap();
    assert_eq!(store.get("k"), Some(b"new".to_vec()));
    store.delete("k");
    store.delete("k");
    store.delete("");
    assert_eq!((store.get("k"), bytes_in(&store)), (None, 0));
}

#[test]
fn the_quota_counts_keys_values_and_what_an_entry_costs() {
    let store = Store::default();
    let fits = QUOTA - ENTRY_BYTES - "key".len();
    assert_eq!(
        store.set("key", vec![0; fits + 1], None, QUOTA),
        Err(StoreError::QuotaExceeded)
    );
    assert_eq!(store.set("key", vec![0; fits], None, QUOTA), Ok(()));
    assert_eq!(store.set("k", Vec::new(), None, QUOTA), Err(StoreError::QuotaExceeded));
    // What is replaced makes room for what replaces it, and stays when that does not fit.
    assert_eq!(store.set("key", vec![1; fits], None, QUOTA), Ok(()));
    assert_eq!(
        store.set("key", vec![2; fits + 1], None, QUOTA),
        Err(StoreError::QuotaExceeded)
    );
    assert_eq!(store.get("key"), Some(vec![1; fits]));
}

#[test]
fn a_flood_of_keys_ends_at_the_quota() {
    let store = Store::default();
    let n_stored = (0..1_000_000)
        .take_while(|number| store.set(&format!("{number:07}"), Vec::new(), None, 1 << 20).is_ok())
        .count();
    assert_eq!(n_stored, (1 << 20) / (7 + ENTRY_BYTES));
    assert_eq!(store.increment("new", 1, None, 1 << 20), Err(StoreError::QuotaExceeded));
    assert_eq!(
        store.set_if_absent("new", Vec::new(), None, 1 << 20),
        Err(StoreError::QuotaExceeded)
    );
}

#[tokio::test(start_paused = true)]
async fn an_entry_ends_with_its_time_and_frees_its_room() {
    let store = Store::default();
    store.set("short", vec![0; 1000], TTL, QUOTA).unwrap();
    store.set("long", vec![0; 1000], None, QUOTA).unwrap();
    tokio::time::advance(Duration::from_millis(9_999)).await;
    assert!(store.get("short").is_some());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(store.get("short"), None);
    assert_eq!(bytes_in(&store), size("long", &[0; 1000]));
    assert_eq!(store.set_if_absent("short", vec![1], TTL, QUOTA), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn a_full_store_takes_new_entries_when_old_ones_expire() {
    let store = Store::default();
    for round in 0..5 {
        let fill = (0..100).take_while(|number| {
            store
                .set(&format!("{round}-{number:02}"), Vec::new(), TTL, QUOTA)
                .is_ok()
        });
        assert_eq!(fill.count(), QUOTA / size("0-00", &[]));
        tokio::time::advance(TTL.unwrap()).await;
    }
    assert_eq!((store.get("4-00"), bytes_in(&store)), (None, 0));
    assert!(store.entries.lock().unwrap().expiries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_value_has_a_new_end() {
    let store = Store::default();
    store.set("k", vec![1], TTL, QUOTA).unwrap();
    store.set("k", vec![2], None, QUOTA).unwrap();
    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!(store.get("k"), Some(vec![2]), "the first end is forgotten");
    store.set("k", vec![3], Some(Duration::ZERO), QUOTA).unwrap();
    assert_eq!(store.get("k"), None, "no time to live is none");
    store
        .set("k", vec![4], Some(Duration::from_millis(u64::MAX)), QUOTA)
        .unwrap();
    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!(store.get("k"), Some(vec![4]), "later than the clock knows is never");
}

#[tokio::test(start_paused = true)]
async fn an_increment_keeps_the_end_unless_it_is_given_one() {
    let store = Store::default();
    assert_eq!(store.increment("n", 2, TTL, QUOTA), Ok(2));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(store.increment("n", -5, None, QUOTA), Ok(-3));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(store.increment("n", 1, TTL, QUOTA), Ok(1), "it began anew");
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(store.increment("n", 1, TTL, QUOTA), Ok(2));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(store.increment("n", 1, None, QUOTA), Ok(3), "its end was moved");
}

#[test]
fn numbers_are_decimal_text_and_stop_at_their_ends() {
    let store = Store::default();
    store.set("n", b"41".to_vec(), None, QUOTA).unwrap();
    assert_eq!(store.increment("n", 1, None, QUOTA), Ok(42));
    assert_eq!(store.get("n"), Some(b"42".to_vec()));
    assert_eq!(store.increment("n", i64::MAX, None, QUOTA), Ok(i64::MAX));
    assert_eq!(store.increment("low", i64::MIN, None, QUOTA), Ok(i64::MIN));
    assert_eq!(store.increment("low", -1, None, QUOTA), Ok(i64::MIN));
    for text in ["", "x", "1.5", "9223372036854775808", "\u{0}"] {
        store.set("text", text.into(), None, QUOTA).unwrap();
        assert_eq!(
            store.increment("text", 1, None, QUOTA),
            Err(StoreError::NotANumber),
            "{text:?}"
        );
        assert_eq!(store.get("text"), Some(text.into()), "it is as it was");
    }
}

#[test]
fn operations_of_many_threads_are_wholes() {
    let store = Store::default();
    let n_stored = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for number in 0..1000 {
                    store.increment("n", 1, None, 1 << 20).unwrap();
                    if store
                        .set_if_absent(&format!("id-{number}"), Vec::new(), None, 1 << 20)
                        .unwrap()
                    {
                        n_stored.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(store.get("n"), Some(b"8000".to_vec()));
    assert_eq!(n_stored.into_inner(), 1000);
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, usize, Option<u64>),
    Delete(u8),
    Increment(u8, Option<u64>),
    SetIfAbsent(u8, Option<u64>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let ttl = || prop::option::of(0_u64..50);
    prop_oneof![
        (0_u8..8, 0_usize..600, ttl()).prop_map(|(key, length, ttl)| Step::Set(key, length, ttl)),
        (0_u8..8).prop_map(Step::Delete),
        (0_u8..8, ttl()).prop_map(|(key, ttl)| Step::Increment(key, ttl)),
        (0_u8..8, ttl()).prop_map(|(key, ttl)| Step::SetIfAbsent(key, ttl)),
        (1_u64..30).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn the_accounts_are_right_after_any_steps(steps in prop::collection::vec(step(), 0..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let quota = 1500;
            let store = Store::default();
            let millis = |ttl: Option<u64>| ttl.map(Duration::from_millis);
            for step in steps {
                // Refusals are fine: what counts is what the books say afterwards.
                match step {
                    Step::Set(key, length, ttl) => _ = store.set(&key.to_string(), vec![b'1'; length], millis(ttl), quota),
                    Step::Delete(key) => store.delete(&key.to_string()),
                    Step::Increment(key, ttl) => _ = store.increment(&key.to_string(), 1, millis(ttl), quota),
                    Step::SetIfAbsent(key, ttl) => {
                        _ = store.set_if_absent(&key.to_string(), Vec::new(), millis(ttl), quota);
                    }
                    Step::Wait(ms) => tokio::time::advance(Duration::from_millis(ms)).await,
                }
                let entries = store.entries.lock().unwrap();
                let bytes: usize = entries.by_key.iter().map(|(key, entry)| size(key, &entry.value)).sum();
                let n_expiring = entries.by_key.values().filter(|entry| entry.expires.is_some()).count();
                assert_eq!((bytes, n_expiring), (entries.bytes, entries.expiries.len()));
                assert!(bytes <= quota);
            }
        });
    }
}
