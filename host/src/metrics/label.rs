//! Counters that are told apart by a label with few values, known beforehand.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use super::Counter;

/// The values of a label.
pub trait Label: Copy + 'static {
    /// All of them, in the order of [`Label::index`].
    const VALUES: &'static [Self];

    /// As it is shown.
    fn name(self) -> &'static str;

    /// Its place in [`Label::VALUES`].
    fn index(self) -> usize;
}

/// One counter for each value of a label.
#[derive(Debug)]
pub struct Family<L> {
    counters: Box<[Counter]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for Family<L> {
    fn default() -> Self {
        Self {
            counters: L::VALUES.iter().map(|_| Counter::default()).collect(),
            label: PhantomData,
        }
    }
}

impl<L: Label> Family<L> {
    /// Adds one to the counter of a value.
    pub fn increment(&self, value: L) {
        if let Some(counter) = self.counters.get(value.index()) {
            counter.increment();
        }
    }

    /// All of them together.
    pub fn value(&self) -> u64 {
        self.counters.iter().map(Counter::value).sum()
    }

    /// Each of them, by the name of its value.
    pub fn values(&self) -> BTreeMap<&'static str, u64> {
        let values = L::VALUES.iter().zip(&self.counters);
        values.map(|(label, counter)| (label.name(), counter.value())).collect()
    }
}

/// Declares a label: an enum, and how its values are shown.
macro_rules! label {
    ($(#[doc = $meaning:literal])* $visibility:vis $label:ident { $($(#[doc = $value_meaning:literal])* $value:ident $name:literal)* }) => {
        $(#[doc = $meaning])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $label {
            $($(#[doc = $value_meaning])* $value,)*
        }

        impl $crate::metrics::Label for $label {
            const VALUES: &'static [Self] = &[$(Self::$value),*];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)*
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) use label;
