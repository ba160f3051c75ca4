//! What is received from a stream, and how the consumer is made.

use test_support::NatsVersion;

use super::rig::Rig;

#[tokio::test]
async fn a_stored_topic_is_received_from_the_stream() {
    for version in NatsVersion::ALL {
        let rig = Rig::start_version(version).await;
        let process = rig.process(&[]).await;
        let published = rig.published("e", 10, 200).await;
        let verdict = rig.everything_settled(&published).await;
        assert!(verdict.is_perfect(), "{version:?}: {verdict}");
        drop(process);
    }
}
