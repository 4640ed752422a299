//! The passes: each a function over [`crate::rules::Rules`] in its own file; `synthesize` has their order.

pub(crate) mod arguments;
pub(crate) mod decide;
pub(crate) mod emit;
pub(crate) mod guard;
pub(crate) mod layout;
pub(crate) mod notice;
pub(crate) mod nvidia;
pub(crate) mod observe;
pub(crate) mod outcomes;
pub(crate) mod runtime;
pub(crate) mod siblings;
