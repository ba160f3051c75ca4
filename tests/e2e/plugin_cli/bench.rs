//! `plugin bench`.

use super::*;

#[tokio::test]
async fn fuel_is_the_same_in_every_run() {
    let bench = async || said(&["bench", "builtin:keptn-filter", "--time", "200ms", "--json"]).await;
    let (first, second) = (bench().await, bench().await);
    assert_eq!(first.exit_code, 0, "{first:?}");
    let [one, other] = [&first, &second].map(|said| said.json()["components"][0].clone());
    assert_eq!(one["fuel_is_exact"], true, "{one}");
    assert_eq!(one["fuel_runs"].as_array().unwrap().len(), 3);
    assert!(one["fuel_per_event"].as_u64().unwrap() > 1000, "{one}");
    assert_eq!(one["fuel_runs"], other["fuel_runs"], "another process counts the same");
    assert!(
        one["median_micros"].as_f64().unwrap() > 0.0 && one["events_per_second"].as_f64().unwrap() > 100.0,
        "{one}"
    );
}

#[tokio::test]
async fn chance_does_not_change_the_fuel() {
    let said = Desk::new()
        .about("bench", "roll-dice", &["--time", "50ms", "--json"])
        .await;
    assert_eq!(said.json()["components"][0]["fuel_is_exact"], true, "{said:?}");
}

#[tokio::test]
async fn two_components_are_compared() {
    let desk = Desk::new();
    let other = desk.write("other.wasm", guest("guest_misbehaving.wasm"));
    let said = said(&["bench", &desk.component(), &other, "--time", "100ms"]).await;
    assert_eq!(said.exit_code, 0, "{said:?}");
    assert!(
        said.stdout.contains("the second takes 1.00 times the fuel"),
        "{}",
        said.stdout
    );
}

#[tokio::test]
async fn what_fails_is_not_measured() {
    let said = Desk::new().about("bench", "trap", &["--time", "50ms"]).await;
    assert_eq!(said.exit_code, 1, "{said:?}");
    assert!(
        said.stderr.contains("so there is nothing to measure: panicked"),
        "{}",
        said.stderr
    );
}
