//! Exit codes, and the kinds of errors that lead to them: the same in both programs.

use serde::{Serialize, Serializer};

/// The exit codes of both programs. They are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Done = 0,
    /// The answer is no: a checked policy that is not valid, something that would have been stopped (`--fail-on-trip`), a
    /// configuration set that is not connected, a stop without effect at SES, a stack with faults.
    No = 1,
    /// Bad usage: arguments that cannot be parsed, an unknown name, or a file that cannot be read, used or written. Nothing
    /// was changed.
    Usage = 2,
    /// AWS refused, could not be reached, or returned what cannot be decoded. Earlier steps of the command remain in effect.
    Refused = 3,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> std::process::ExitCode {
        std::process::ExitCode::from(exit as u8)
    }
}

macro_rules! kinds {
    ($($(#[$meaning:meta])+ $kind:ident = $name:literal, $exit:ident;)+) => {
        /// The kind of an error: the member `error` of its JSON, and what decides the exit code. Names are stable; new kinds
        /// may be added.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorKind {
            $($(#[$meaning])+ $kind,)+
        }

        impl ErrorKind {
            /// All kinds.
            pub const ALL: &[ErrorKind] = &[$(ErrorKind::$kind,)+];

            /// Its name in JSON.
            pub fn name(self) -> &'static str {
                match self {
                    $(ErrorKind::$kind => $name,)+
                }
            }

            /// Its exit code.
            pub fn exit(self) -> Exit {
                match self {
                    $(ErrorKind::$kind => Exit::$exit,)+
                }
            }
        }
    };
}

kinds! {
    /// Arguments that cannot be parsed, or do not go together.
    Usage = "usage", Usage;
    /// No AWS Region is configured.
    NoRegion = "no_region", Usage;
    /// A subject without mail, or that the stack has never seen.
    UnknownSubject = "unknown_subject", Usage;
    /// A name that is not an ISP of the policy.
    UnknownIsp = "unknown_isp", Usage;
    /// A configuration set that the policy does not plan.
    UnknownSet = "unknown_set", Usage;
    /// A policy version that is not stored.
    UnknownVersion = "unknown_version", Usage;
    /// A parameter that the template does not have.
    UnknownParameter = "unknown_parameter", Usage;
    /// Neither a built-in scenario nor a file.
    UnknownScenario = "unknown_scenario", Usage;
    /// A policy that is not valid, where one is needed.
    InvalidPolicy = "invalid_policy", Usage;
    /// A price file that cannot be used.
    InvalidPrices = "invalid_prices", Usage;
    /// A scenario that cannot be used.
    InvalidScenario = "invalid_scenario", Usage;
    /// A configuration file that cannot be used.
    InvalidConfig = "invalid_config", Usage;
    /// Input that does not exist, or cannot be read to its end.
    Unreadable = "unreadable", Usage;
    /// A file or folder that cannot be written.
    Unwritable = "unwritable", Usage;
    /// Input that is not sorted by time.
    OutOfOrder = "out_of_order", Usage;
    /// Input without SES events, or without any in the requested time.
    NoEvents = "no_events", Usage;
    /// Input that names no recipient domain.
    NoDomains = "no_domains", Usage;
    /// An empty time range.
    NoTime = "no_time", Usage;
    /// A time in the future, or too long ago to be judged.
    NotJudgeable = "not_judgeable", Usage;
    /// The bucket does not exist.
    NoBucket = "no_bucket", Usage;
    /// No object has the prefix.
    NoObjects = "no_objects", Usage;
    /// The stack has recorded nothing yet.
    NothingRecorded = "nothing_recorded", No;
    /// The Region has no configuration set.
    NoConfigurationSets = "no_configuration_sets", No;
    /// A question was answered with no.
    Declined = "declined", No;
    /// A question, and no terminal to ask on.
    Unconfirmed = "unconfirmed", Usage;
    /// A command that needs a terminal.
    NoTerminal = "no_terminal", Usage;
    /// An address that cannot be listened on.
    CannotListen = "cannot_listen", Usage;
    /// The stack's template does not permit it.
    NotPermitted = "not_permitted", No;
    /// SES has not verified the sender's address.
    NotVerified = "not_verified", Usage;
    /// A drill that would prove nothing under the policy in use.
    NoDrill = "no_drill", No;
    /// The functions' code is missing or damaged.
    NoCode = "no_code", Usage;
    /// A stack that another tool created.
    ForeignStack = "foreign_stack", Usage;
    /// A bucket that cannot be used.
    ForeignBucket = "foreign_bucket", Usage;
    /// Tables of an earlier stack are in the way.
    TablesRemain = "tables_remain", No;
    /// A stack that has to be repaired first.
    BrokenStack = "broken_stack", No;
    /// Something is protected from deletion.
    Protected = "protected", No;
    /// Permissions that the caller lacks.
    Permissions = "permissions", Refused;
    /// CloudFormation refuses the changes.
    ChangesRefused = "changes_refused", Refused;
    /// CloudFormation could not finish.
    NotFinished = "not_finished", Refused;
    /// AWS refused, or could not be reached.
    Refused = "refused", Refused;
    /// No DNS resolver is known.
    NoResolver = "no_resolver", Refused;
    /// A fault of the program.
    Fault = "fault", Refused;
    /// The answer cannot be written.
    Output = "output", Usage;
}

impl Serialize for ErrorKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn exit_codes_are_part_of_the_interface() {
        let codes = [Exit::Done, Exit::No, Exit::Usage, Exit::Refused].map(|exit| format!("{exit:?} = {}", exit as u8));
        insta::assert_snapshot!(codes.join(", "), @"Done = 0, No = 1, Usage = 2, Refused = 3");
    }

    #[test]
    fn kinds_of_errors_have_names_of_their_own_and_none_is_a_success() {
        let names: BTreeSet<&str> = ErrorKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ErrorKind::ALL.len());
        assert!(ErrorKind::ALL.iter().all(|kind| kind.exit() != Exit::Done));
    }
}
