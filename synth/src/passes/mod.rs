//! The passes, in the order in which they run: each a function over [`crate::rules::Rules`] in its own file.

pub(crate) mod emit;
pub(crate) mod guard;
pub(crate) mod layout;
pub(crate) mod observe;
pub(crate) mod outcomes;
pub(crate) mod runtime;
pub(crate) mod siblings;
