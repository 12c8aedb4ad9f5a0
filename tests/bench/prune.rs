//! Measures the deletion of nine of twelve months of data: first texts, as when a user sets that retention first, then
//! reports and incidents.

use crate::pages::filled;
use crate::support::Setup;
use regreen::db::prune::{Kind, prune};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by make bench"]
async fn prune_past() {
    let setup = Setup::bare().await;
    let pool = filled(&setup).await;
    let mut connection = pool.acquire().await.unwrap();
    let now = chrono::Utc::now();
    let before = now - chrono::TimeDelta::days(91);
    for kind in [Kind::Evidence, Kind::Runs, Kind::Reports, Kind::Conversations, Kind::Incidents] {
        let begun = Instant::now();
        let count = prune(&mut connection, kind, before, now).await.unwrap();
        let took = begun.elapsed().as_secs_f64();
        println!("{count:>9} {:<20} in {took:>5.1} s, {:>6.0} a second", kind.as_str(), count as f64 / took);
        let begun = Instant::now();
        assert_eq!(prune(&mut connection, kind, before, now).await.unwrap(), 0);
        println!("{:>30} again in {:.2} s", "", begun.elapsed().as_secs_f64());
    }
}
