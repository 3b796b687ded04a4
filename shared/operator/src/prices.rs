//! The prices of SES: a dated file, because prices change between releases.

use serde::{Deserialize, Serialize};

/// The built-in prices.
pub const BUILT_IN: &str = include_str!("prices.toml");

/// Prices of Amazon SES in one Region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// When they were published (YYYY-MM-DD).
    pub date: String,
    /// The Region for which they are valid.
    pub region: String,
    /// The currency.
    pub currency: String,
    /// Pages that list them.
    pub sources: Vec<String>,
    /// Keys of this file that could not be verified with a primary source.
    #[serde(default)]
    pub unverified: Vec<String>,
    /// Price of 1,000 mails, with any kind of IP.
    pub per_thousand: f64,
    /// Standard dedicated IPs.
    pub standard: Standard,
    /// Managed dedicated IPs.
    pub managed: Managed,
}

/// Prices of standard dedicated IPs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standard {
    /// One address for a month.
    pub ip_month: f64,
    /// Mails a day that one address can send.
    pub mails_per_ip_and_day: u64,
}

/// Prices of managed dedicated IPs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Managed {
    /// The subscription for a month.
    pub month: f64,
    /// The additional price of each 1,000 mails of a month.
    pub tiers: Vec<Tier>,
}

/// A range of a month's mails.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// The last mail of the range; `None` = no end.
    pub up_to: Option<u64>,
    /// Price of 1,000 mails in it.
    pub per_thousand: f64,
}

/// Prices that are not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricesError {
    /// It is not TOML, or does not have the shape of the built-in file.
    #[error("{0}")]
    Shape(String),
    /// A value out of range.
    #[error("{key} is {found}, should be {expected}")]
    Value {
        /// The path of the key.
        key: &'static str,
        /// Its value.
        found: String,
        /// The values that are allowed.
        expected: &'static str,
    },
}

impl Prices {
    /// Reads a file of prices.
    ///
    /// # Errors
    ///
    /// Names the key that is not valid.
    pub fn from_toml(text: &str) -> Result<Prices, PricesError> {
        let prices: Prices = toml::from_str(text).map_err(|error| PricesError::Shape(error.message().to_owned()))?;
        let wrong =
            |key, found: &dyn ToString, expected| Err(PricesError::Value { key, found: found.to_string(), expected });
        let amounts = [
            ("per_thousand", prices.per_thousand),
            ("standard.ip_month", prices.standard.ip_month),
            ("managed.month", prices.managed.month),
        ];
        let tiers = prices.managed.tiers.iter().map(|tier| ("managed.tiers.per_thousand", tier.per_thousand));
        for (key, amount) in amounts.into_iter().chain(tiers) {
            if !(0.0..=1_000_000.0).contains(&amount) {
                return wrong(key, &amount, "an amount from 0 to 1,000,000");
            }
        }
        if prices.standard.mails_per_ip_and_day == 0 {
            return wrong("standard.mails_per_ip_and_day", &0, "1 or more");
        }
        let ends: Vec<u64> = prices.managed.tiers.iter().map(|tier| tier.up_to.unwrap_or(u64::MAX)).collect();
        if ends.last() != Some(&u64::MAX) || !ends.is_sorted_by(|a, b| a < b) {
            let shown: Vec<String> = prices
                .managed
                .tiers
                .iter()
                .map(|tier| tier.up_to.map_or("no end".into(), |end| end.to_string()))
                .collect();
            return wrong(
                "managed.tiers",
                &format!("[{}]", shown.join(", ")),
                "rising `up_to`, and a last tier without one",
            );
        }
        Ok(prices)
    }

    /// The price of this number of mails in a month, with any kind of IP.
    pub fn mails(&self, mails: f64) -> f64 {
        mails / 1000.0 * self.per_thousand
    }

    /// The additional price of managed IPs in a month.
    pub fn managed(&self, mails: f64) -> f64 {
        let mut from = 0.0;
        let mut cost = self.managed.month;
        for tier in &self.managed.tiers {
            let end = tier.up_to.map_or(f64::INFINITY, |end| end as f64);
            cost += (mails.min(end) - from).max(0.0) / 1000.0 * tier.per_thousand;
            from = end;
        }
        cost
    }

    /// The number of standard IPs for this number of mails a day.
    pub fn ips(&self, mails_a_day: u64) -> u64 {
        mails_a_day.div_ceil(self.standard.mails_per_ip_and_day).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_prices_are_valid_and_say_which_of_them_are_not_verified() {
        let prices = Prices::from_toml(BUILT_IN).unwrap();
        assert_eq!(prices.unverified, ["managed.month", "managed.tiers", "standard.mails_per_ip_and_day"]);
        assert!(!prices.sources.is_empty());
    }

    #[test]
    fn a_wrong_price_is_named() {
        for (from, to, expected) in [
            ("0.10", "-1", "per_thousand is -1, should be an amount from 0 to 1,000,000"),
            ("24.95", "nan", "standard.ip_month is NaN, should be an amount from 0 to 1,000,000"),
            (
                "mails_per_ip_and_day = 50000",
                "mails_per_ip_and_day = 0",
                "standard.mails_per_ip_and_day is 0, should be 1 or more",
            ),
            (
                "up_to = 50000000, ",
                "",
                "managed.tiers is [10000000, no end, no end], should be rising `up_to`, and a last tier without one",
            ),
            ("[standard]", "[standart]", "unknown field `standart`, expected one of"),
            ("month = 15.00", "month = \"free\"", "invalid type: string \"free\", expected f64"),
        ] {
            assert!(BUILT_IN.contains(from), "{from}");
            let error = Prices::from_toml(&BUILT_IN.replace(from, to)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn each_mail_of_a_month_costs_what_its_tier_says() {
        let prices = Prices::from_toml(BUILT_IN).unwrap();
        for (mails, expected) in [
            (0.0, 15.0),
            (1e6, 15.0 + 80.0),
            (1e7, 15.0 + 800.0),
            (2e7, 15.0 + 800.0 + 400.0),
            (1e8, 15.0 + 800.0 + 1600.0 + 1000.0),
        ] {
            assert!((prices.managed(mails) - expected).abs() < 1e-6, "{mails}: {}", prices.managed(mails));
        }
        assert_eq!([0, 1, 50_000, 50_001].map(|mails| prices.ips(mails)), [1, 1, 1, 2]);
    }
}
