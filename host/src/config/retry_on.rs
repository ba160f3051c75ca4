//! Which statuses of the service mean that trying again makes sense.

use http::StatusCode;

/// A set of HTTP statuses from 300 to 599.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryOn(Vec<(u16, u16)>);

impl RetryOn {
    /// Reads single statuses (`404`), ranges (`502-599`) and classes (`5xx`).
    ///
    /// # Errors
    /// The first item that is none of them, with the reason.
    pub fn parse<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let ranges = items.into_iter().filter(|item| !item.is_empty()).map(range);
        ranges.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a request with this answer is worth another try.
    pub fn contains(&self, status: StatusCode) -> bool {
        let status = status.as_u16();
        self.0.iter().any(|&(first, last)| (first..=last).contains(&status))
    }
}

fn range(item: &str) -> Result<(u16, u16), String> {
    let status = |text: &str| text.trim().parse().ok().filter(|status| (300..600).contains(status));
    let lower = item.to_ascii_lowercase();
    let parsed = if let Some(class) = lower.strip_suffix("xx") {
        status(&format!("{class}00")).map(|first| (first, first + 99))
    } else if let Some((first, last)) = item.split_once('-') {
        status(first).zip(status(last)).filter(|(first, last)| first <= last)
    } else {
        status(item).map(|status| (status, status))
    };
    parsed.ok_or_else(|| {
        format!("{item:?} is neither a status from 300 to 599, a range like `502-599`, nor a class like `5xx`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_ranges_and_classes_make_up_the_set() {
        let set = RetryOn::parse(["404", "502-503", "4XX", " 307 - 308 ", ""]).unwrap();
        let check = |status: u16, expected: bool| {
            assert_eq!(
                set.contains(StatusCode::from_u16(status).unwrap()),
                expected,
                "{status}"
            );
        };
        check(306, false);
        check(307, true);
        check(308, true);
        check(399, false);
        check(400, true);
        check(499, true);
        check(500, false);
        check(502, true);
        check(504, false);
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for item in ["2xx", "200", "600", "x", "503-502", "5x", "-", "6xx"] {
            assert!(RetryOn::parse([item]).is_err(), "{item}");
        }
    }
}
