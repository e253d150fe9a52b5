//! Statistics of times: percentiles of a few samples, and a histogram of very many.

/// Times in nanoseconds, sorted.
pub(crate) struct Sorted(Vec<u64>);

impl Sorted {
    pub(crate) fn new(mut samples: Vec<u64>) -> Sorted {
        samples.sort_unstable();
        Sorted(samples)
    }

    /// Returns the value below which `percent` of the samples are.
    pub(crate) fn percentile(&self, percent: usize) -> u64 {
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Counts of times, in buckets as wide as a sixteenth of their value.
#[derive(Clone)]
pub(crate) struct Histogram(Vec<u32>);

const SUB: u32 = 4;
pub(crate) const BUCKETS: usize = 64 << SUB;

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram(vec![0; BUCKETS])
    }

    pub(crate) fn add(&mut self, value: u64) {
        self.0[bucket(value)] += 1;
    }

    pub(crate) fn merge(&mut self, bytes: &[u8]) {
        for (count, bytes) in self.0.iter_mut().zip(bytes.chunks_exact(4)) {
            *count += u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|count| count.to_ne_bytes()).collect()
    }

    /// Returns the lower end of the bucket below which `percent` of the values are.
    pub(crate) fn percentile(&self, percent: u64) -> u64 {
        let all: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let mut left = all * percent / 100;
        for (at, count) in self.0.iter().enumerate() {
            if u64::from(*count) > left {
                return value(at);
            }
            left -= u64::from(*count);
        }
        0
    }
}

fn bucket(value: u64) -> usize {
    let value = value.max(1);
    let power = value.ilog2();
    if power < SUB {
        return value as usize;
    }
    let fraction = (value >> (power - SUB)) as usize & ((1 << SUB) - 1);
    ((power as usize) << SUB) + fraction
}

fn value(bucket: usize) -> u64 {
    let (power, fraction) = ((bucket >> SUB) as u32, (bucket & ((1 << SUB) - 1)) as u64);
    if power < SUB { bucket as u64 } else { (1 << power) + (fraction << (power - SUB)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_sixteenth_of_its_value_wide() {
        for number in [1, 2, 15, 16, 17, 31, 100, 1_000, 123_456, 10_000_000_000] {
            let low = value(bucket(number));
            assert!(low <= number && number - low <= number / 16, "{number} is counted as {low}");
        }
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|number| histogram.add(number));
        assert!((470..=500).contains(&histogram.percentile(50)), "{}", histogram.percentile(50));
        assert!((930..=990).contains(&histogram.percentile(99)), "{}", histogram.percentile(99));
    }
}
