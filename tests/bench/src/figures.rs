//! The figures that are reported: what each is called, and how rounds are combined.
//!
//! Written by the rounds, read by `report`. It must not know how a figure is measured.

/// One thing that a round tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    EventsPerSecond,
    RequestsPerSecond,
    CpuSecondsPer100000,
    CpuSecondsPer100000Requests,
    LatencyP50Microseconds,
    LatencyP99Microseconds,
    PeakMemoryMebibytes,
    MemoryMebibytes,
    AnonymousMemoryMebibytes,
    IdleCpuMillisecondsPerSecond,
    HealthMilliseconds,
    FirstDeliveredMilliseconds,
    DeliveredPerSecond,
    ExitMilliseconds,
    RestDeliveredSeconds,
    RecoveryMilliseconds,
    SwapCompiledMilliseconds,
    SwapCachedMilliseconds,
    RequestsPerCycle,
    CpuSecondsPerCycle,
    CallMicroseconds,
    BinaryMegabytes,
    StaticBinaryMegabytes,
    Lost,
    Doubled,
    Unwanted,
    MisorderedInKey,
}

/// What one round measured.
pub(crate) type Round = Vec<(Figure, f64)>;

impl Figure {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::EventsPerSecond => "events/s",
            Self::RequestsPerSecond => "requests/s",
            Self::CpuSecondsPer100000 => "CPU s per 100,000 events",
            Self::CpuSecondsPer100000Requests => "CPU s per 100,000 requests",
            Self::LatencyP50Microseconds => "latency p50, µs",
            Self::LatencyP99Microseconds => "latency p99, µs",
            Self::PeakMemoryMebibytes => "peak memory (VmHWM), MiB",
            Self::MemoryMebibytes => "memory (VmRSS), MiB",
            Self::AnonymousMemoryMebibytes => "of it allocated (RssAnon), MiB",
            Self::IdleCpuMillisecondsPerSecond => "CPU, ms per s",
            Self::HealthMilliseconds => "exec to /health, ms",
            Self::FirstDeliveredMilliseconds => "exec to first delivered, ms",
            Self::DeliveredPerSecond => "delivered/s",
            Self::ExitMilliseconds => "SIGTERM to exit, ms",
            Self::RestDeliveredSeconds => "restart to all delivered, s",
            Self::RecoveryMilliseconds => "back to first delivered, ms",
            Self::SwapCompiledMilliseconds => "rename to verdict, compiled, ms",
            Self::SwapCachedMilliseconds => "rename to verdict, cached, ms",
            Self::RequestsPerCycle => "requests per poll",
            Self::CpuSecondsPerCycle => "CPU s per poll",
            Self::CallMicroseconds => "per call, µs",
            Self::BinaryMegabytes => "as measured here, MB",
            Self::StaticBinaryMegabytes => "static, stripped, MB",
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Unwanted => "delivered in spite of the filter",
            Self::MisorderedInKey => "out of order in their key",
        }
    }

    pub(crate) fn decimals(self) -> usize {
        match self {
            Self::CpuSecondsPerCycle | Self::CallMicroseconds => 3,
            Self::CpuSecondsPer100000 | Self::CpuSecondsPer100000Requests => 2,
            Self::PeakMemoryMebibytes
            | Self::MemoryMebibytes
            | Self::AnonymousMemoryMebibytes
            | Self::IdleCpuMillisecondsPerSecond
            | Self::HealthMilliseconds
            | Self::RestDeliveredSeconds
            | Self::RequestsPerCycle
            | Self::BinaryMegabytes
            | Self::StaticBinaryMegabytes
            | Self::FirstDeliveredMilliseconds => 1,
            _ => 0,
        }
    }

    /// More of it is better.
    pub(crate) fn is_rate(self) -> bool {
        matches!(
            self,
            Self::EventsPerSecond | Self::RequestsPerSecond | Self::DeliveredPerSecond
        )
    }

    /// Something that should never happen.
    pub(crate) fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Lost | Self::Doubled | Self::Unwanted | Self::MisorderedInKey
        )
    }

    /// The median of all rounds; of what should never happen, the worst round.
    pub(crate) fn combine(self, rounds: &[Round]) -> Option<f64> {
        let of_round = |round: &Round| {
            round
                .iter()
                .find(|(figure, _)| *figure == self)
                .map(|(_, value)| *value)
        };
        let mut values: Vec<f64> = rounds.iter().filter_map(of_round).collect();
        values.sort_unstable_by(f64::total_cmp);
        if self.is_failure() {
            values.last().copied()
        } else {
            values.get(values.len() / 2).copied()
        }
    }
}
