//! What each subcommand does.

pub(crate) mod apply;
pub(crate) mod clusters;
pub(crate) mod completion;
pub(crate) mod generate;
pub(crate) mod get;
pub(crate) mod join;
pub(crate) mod status;
pub(crate) mod unjoin;
pub(crate) mod version;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The condition of that type, where there is one.
pub(crate) fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}
