//! The built-in scenarios.

use super::scenario::Scenario;

/// Name and TOML of each, in a good order for reading.
const BUILTIN: [(&str, &str); 6] = [
    ("healthy-day", include_str!("scenarios/healthy-day.toml")),
    ("stale-list", include_str!("scenarios/stale-list.toml")),
    ("isp-throttling", include_str!("scenarios/isp-throttling.toml")),
    ("complaints-rising", include_str!("scenarios/complaints-rising.toml")),
    ("provider-incident", include_str!("scenarios/provider-incident.toml")),
    ("messy", include_str!("scenarios/messy.toml")),
];

impl Scenario {
    /// The built-in scenario of that name.
    pub fn builtin(name: &str) -> Option<Self> {
        // A test parses them all.
        Self::from_toml(Self::builtin_toml(name)?).ok()
    }

    /// The text of the built-in scenario of that name, as a template for other scenarios.
    pub fn builtin_toml(name: &str) -> Option<&'static str> {
        BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, toml)| *toml)
    }

    /// The names of the built-in scenarios.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }
}
